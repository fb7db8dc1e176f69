"""A replica that serves a decoder: wires engine, prompts, frames and subjects."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from llguidance import LLTokenizer

from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.replica.background import background
from services.inference.replica.generate.endpoints import subscribe
from services.inference.replica.generate.frames import Ended
from services.inference.replica.generate.handler import Generator
from services.inference.replica.generate.publisher import Publisher
from services.inference.replica.generate.sampling import SamplingResolver
from services.inference.replica.generate.serving import Serving
from services.inference.replica.generate.spans import RequestSpans
from services.inference.replica.load import report_load
from services.inference.replica.model import LoadedModel, load_model
from services.inference.replica.settings import Settings
from services.inference.text.grammar.cache import Grammars
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.tokens import grammar_tokenizer
from services.inference.text.structured import StructuredAnswers
from shared.contracts.manifest import Manifest
from shared.contracts.serving import ReplicaOptions
from shared.errors import InvalidInput
from shared.service.context import Context
from shared.text.prompt import PromptBuilder
from shared.text.template_process import TemplateProcess
from shared.text.tool_form import takes_tools

log = structlog.get_logger("llmos.replica")


class DecoderReplica:
    """What runs while a decoder is served."""

    def __init__(self, serving: Serving, engine: Engine) -> None:
        self._serving = serving
        self._engine = engine

    def refuse(self) -> None:
        """Take nothing new."""
        self._engine.drain()

    async def drain(self, grace: float) -> None:
        """Let answers finish for `grace` seconds; hand the rest back to their gateways."""
        await self._serving.drain(grace)


async def start_decoder(
    context: Context, settings: Settings, manifest: Manifest, folder: Path, *, threads: int, stack: AsyncExitStack
) -> DecoderReplica:
    """Load and subscribe; what is started is stopped by `stack`. Raises what `load_model` raises."""
    assignment, bus = settings.assignment, context.bus
    model = await asyncio.to_thread(load_model, folder, manifest, assignment, threads=threads)
    spans = RequestSpans(assignment, settings.node_id)
    publisher = await stack.enter_async_context(Publisher(bus))
    serving = Serving(assignment.id, publisher, lambda ended: _on_ended(spans, ended))
    limits = limits_for(assignment.options, kv_per_token=manifest.the_decoder.kv_bytes_per_token)
    engine = Engine(model.decoder, limits, serving.on_step)
    serving.attach(engine)
    engine.start()
    stack.push_async_callback(asyncio.to_thread, engine.close)
    prompts = await _prompts(model, manifest, assignment.options.max_len, stack)
    generator = Generator(
        serving,
        engine,
        prompts=prompts,
        tokenizer=model.tokenizer,
        sampling=SamplingResolver(manifest.defaults, manifest.the_decoder, max_len=assignment.options.max_len),
        structured=await _structured(model, manifest, stack),
    )
    await stack.enter_async_context(background(serving.watch(lambda: bus.connected), "watch deadlines and gateways"))
    await stack.enter_async_context(background(report_load(bus, assignment, engine.load), "report the load"))
    await subscribe(context, assignment.id, generator, serving)
    return DecoderReplica(serving, engine)


async def _prompts(model: LoadedModel, manifest: Manifest, max_len: int, stack: AsyncExitStack) -> PromptBuilder:
    """Try the template once: the worker is up then, and the log says at start if the template is no good."""
    if model.template is None:
        return PromptBuilder(model.tokenizer, None, manifest.the_decoder, max_len=max_len)
    template = await stack.enter_async_context(
        TemplateProcess(model.template, bos_token=model.bos_token, eos_token=model.eos_token)
    )
    try:
        await template.render([{"role": "user", "content": "Hello"}])
    except InvalidInput as error:
        log.warning("template_refused", error=error.message)
    return PromptBuilder(
        model.tokenizer,
        template,
        manifest.the_decoder,
        max_len=max_len,
        knows_developer="developer" in model.template,
        knows_tools=takes_tools(model.template),
    )


async def _structured(model: LoadedModel, manifest: Manifest, stack: AsyncExitStack) -> StructuredAnswers:
    process = await stack.enter_async_context(GrammarProcess())
    spec = manifest.the_decoder

    def make_tokenizer() -> LLTokenizer:
        return grammar_tokenizer(model.tokenizer, vocab_size=spec.vocab_size, eos_token_ids=spec.eos_token_ids)

    return StructuredAnswers(Grammars(make_tokenizer, process), model.tokenizer, model.template)


def limits_for(options: ReplicaOptions, *, kv_per_token: int) -> EngineLimits:
    """The engine's default bounds, with room for all slots and one chunk of a prompt in each step.

    Four requests may wait for each slot, two of one tenant: the last waits about twice as long as an answer takes.
    The prefix cache gets as many blocks as its part of the grant holds, at `kv_per_token` bytes a token.
    """
    default = EngineLimits()
    return EngineLimits(
        step_tokens=max(default.step_tokens, options.slots + default.prefill_chunk),
        max_waiting=max(default.max_waiting, 4 * options.slots),
        cache_blocks=options.prefix_cache // (kv_per_token * default.prefill_chunk),
        draft_tokens=options.draft_tokens,
    )


def _on_ended(spans: RequestSpans, ended: Ended) -> None:
    stream, error = ended.stream, ended.ending.error
    spans.record(ended, end_ns=time.time_ns())
    log.info(
        "request_ended",
        request_id=stream.request_id,
        reason=ended.ending.reason.value,
        error=None if error is None else error.code,
        prompt_tokens=stream.prompt_tokens,
        completion_tokens=stream.answer.tokens,
        resumed_tokens=stream.resumed_tokens,
    )
