"""A replica that serves a decoder: loads it, and connects engine, handler, frames and endpoints."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from llguidance import LLTokenizer

from services.inference.engine.engine import Engine, end_process
from services.inference.engine.limits import EngineLimits
from services.inference.replica.generate.endpoints import endpoints
from services.inference.replica.generate.handler import GenerateHandler
from services.inference.replica.generate.model import LoadedModel, load_model
from services.inference.replica.generate.publisher import Publisher
from services.inference.replica.generate.sampling import SamplingResolver
from services.inference.replica.generate.serving import Serving
from services.inference.replica.generate.spans import GenerateSpans
from services.inference.replica.generate.stream import FinishedRequest
from services.inference.replica.generate.tokenization import TokenizationHandler
from services.inference.replica.load import report_load
from services.inference.replica.settings import Settings
from services.inference.text.grammar.cache import GrammarCache
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import SchemaOptions
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from services.inference.text.structured_output import StructuredOutputBuilder
from services.inference.turns import Turns
from shared.contracts.manifest import Manifest
from shared.contracts.serving import ReplicaOptions
from shared.errors import InvalidInput
from shared.service.background import background
from shared.service.context import Context
from shared.text.prompt import PromptBuilder
from shared.text.template_process import TemplateProcess
from shared.text.template_traits import traits_of

_log = structlog.get_logger("llmos.replica")


class DecoderReplica:
    """A running decoder, to be drained."""

    def __init__(self, serving: Serving, engine: Engine, chars_per_token: int) -> None:
        self._serving = serving
        self._engine = engine
        self.chars_per_token = chars_per_token

    def stalled_s(self) -> float:
        """Seconds without a step if the engine has stalled, else 0."""
        return self._engine.stalled_s()

    def stop_accepting(self) -> None:
        """Reject new requests."""
        self._engine.drain()

    async def drain(self, grace: float) -> None:
        """Let answers finish for `grace` seconds; hand the rest back to their gateways."""
        await self._serving.drain(grace)


@asynccontextmanager
async def serve_decoder(
    context: Context, settings: Settings, manifest: Manifest, folder: Path, *, threads: int
) -> AsyncIterator[DecoderReplica]:
    """Load the version and take requests while inside. Raises what `load_model` raises."""
    assignment, bus = settings.assignment, context.bus
    model = await asyncio.to_thread(load_model, folder, manifest, assignment, threads=threads)
    spans = GenerateSpans(assignment, settings.node_id)
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(bus).running())
        serving = Serving(assignment.id, publisher, lambda finished: _on_finished(spans, finished))
        limits = limits_for(assignment.options, kv_per_token=manifest.the_decoder.kv_bytes_per_token)
        engine = Engine(model.decoder, limits, serving.on_step)
        serving.attach(engine)
        engine.start()
        stack.push_async_callback(asyncio.to_thread, engine.close)
        max_len = assignment.options.max_len
        template = await _template(model, stack)
        traits = await traits_of(template)
        prompts = PromptBuilder(model.tokenizer, template, manifest.the_decoder, max_len=max_len, traits=traits)
        turns = Turns("prompts", charge=engine.charge)
        tokenization = TokenizationHandler(model, prompts, manifest.the_decoder, turns=turns, max_len=max_len)
        handler = GenerateHandler(
            serving,
            engine,
            prompts=prompts,
            tokenizer=model.tokenizer,
            sampling=SamplingResolver(manifest.defaults, manifest.the_decoder, max_len=max_len),
            structured=await _structured(model, manifest, assignment.options, engine, stack),
            turns=turns,
            parallel_calls=traits.parallel_calls,
            thinks=traits.thinks,
            share_cache=assignment.options.share_cache,
        )
        await stack.enter_async_context(serving.running(lambda: bus.connected))
        reports = report_load(bus, assignment, engine.load)
        await stack.enter_async_context(background(reports, "load reports", on_failure=end_process))
        await stack.enter_async_context(endpoints(context, assignment.id, handler, tokenization, serving))
        yield DecoderReplica(serving, engine, model.tokenizer.chars_per_token)


async def _template(model: LoadedModel, stack: AsyncExitStack) -> TemplateProcess | None:
    """Render the template once, which starts the worker and logs a broken template at the start."""
    if model.template is None:
        return None
    template = await stack.enter_async_context(TemplateProcess(model.template, model.special_tokens).running())
    try:
        await template.render([{"role": "user", "content": "Hello"}])
    except InvalidInput as error:
        _log.warning("template.rejected", error=error.message)
    return template


async def _structured(
    model: LoadedModel, manifest: Manifest, options: ReplicaOptions, engine: Engine, stack: AsyncExitStack
) -> StructuredOutputBuilder:
    process = await stack.enter_async_context(GrammarProcess().running())
    spec = manifest.the_decoder

    def make_tokenizer() -> LLTokenizer:
        return grammar_tokenizer(model.tokenizer, vocab_size=spec.vocab_size, eos_token_ids=spec.eos_token_ids)

    schemas = SchemaOptions(close_objects=options.additional_properties == "closed")
    grammars = GrammarCache(make_tokenizer, process, charge=engine.charge)
    return StructuredOutputBuilder(grammars, model.tokenizer, model.template, schemas)


def limits_for(options: ReplicaOptions, *, kv_per_token: int) -> EngineLimits:
    """The engine's default bounds, with room for all slots and one chunk of a prompt in each step.

    Four requests may wait for each slot, two of one tenant: the last waits about twice as long as an answer takes.
    The prefix cache gets as many blocks as its part of the grant holds, at `kv_per_token` bytes a token.
    """
    default = EngineLimits()
    return EngineLimits(
        step_tokens=max(default.step_tokens, options.slots + default.prefill_chunk),
        max_waiting=max(default.max_waiting, 4 * options.slots),
        max_wait_s=options.max_wait or default.max_wait_s,
        cache_blocks=options.prefix_cache // (kv_per_token * default.prefill_chunk),
        draft_tokens=options.draft_tokens,
    )


def _on_finished(spans: GenerateSpans, finished: FinishedRequest) -> None:
    stream, error = finished.stream, finished.finish.error
    spans.record(finished, end_ns=time.time_ns())
    _log.info(
        "request.finished",
        request_id=stream.request_id,
        reason=finished.finish.reason.value,
        error=None if error is None else error.code,
        prompt_tokens=stream.prompt_tokens,
        completion_tokens=stream.answer.tokens,
        resumed_tokens=stream.resumed_tokens,
    )
