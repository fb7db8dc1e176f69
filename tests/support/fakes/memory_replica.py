"""The parts of a replica that serve requests, on a bus in memory: no process, no model, no NATS."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import numpy as np

from services.inference.engine.decoder import Decoder, Logits
from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.scripted_decoder import ScriptedDecoder
from services.inference.replica.generate.handler import GenerateHandler
from services.inference.replica.generate.model import LoadedModel
from services.inference.replica.generate.publisher import Publisher
from services.inference.replica.generate.sampling import SamplingResolver
from services.inference.replica.generate.serving import Serving
from services.inference.replica.generate.stream import FinishedRequest
from services.inference.replica.generate.tokenization import TokenizationHandler
from services.inference.turns import Turns
from shared.bus.memory.bus import MemoryBus
from shared.bus.port import Message
from shared.contracts.gateway import Frame, FrameBatch, frames_subject
from shared.contracts.manifest import DecoderSpec
from shared.contracts.replica import Generate
from shared.contracts.sampling import Sampling
from shared.text.prompt import PromptBuilder
from shared.text.template_process import TemplateProcess
from shared.text.template_traits import traits_of
from shared.text.tokenizer import Tokenizer
from tests.support.factories.structured_outputs import structured_output_builder
from tests.support.harness.wait import eventually


def small_spec(tokenizer: Tokenizer) -> DecoderSpec:
    return DecoderSpec(
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=2,
        hidden_size=2,
        vocab_size=tokenizer.vocab_size,
        context_length=64,
        bos_token_id=1,
        eos_token_ids=(2,),
    )


class KnownAnswerDecoder(ScriptedDecoder):
    """Its most probable next tokens are those of a known text, prompt included."""

    def __init__(self, text: Sequence[int], *, vocab_size: int, slots: int = 2, max_len: int = 64) -> None:
        super().__init__(slots=slots, max_len=max_len, vocab_size=vocab_size)
        self._text = list(text)

    def _logits(self, _slot: int, length: int) -> Logits:
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        logits[self._text[length] if length < len(self._text) else 0] = 9.0
        return logits


class MemoryReplica:
    """A replica's parts, and the frames that it sent."""

    def __init__(
        self,
        bus: MemoryBus,
        serving: Serving,
        engine: Engine,
        handler: GenerateHandler,
        *,
        tokenization: TokenizationHandler,
        finished: list[FinishedRequest],
    ) -> None:
        self.bus, self.serving, self.engine, self.generate, self.finished = bus, serving, engine, handler, finished
        self.tokenization = tokenization
        self.frames: dict[str, list[Frame]] = {}

    def on_frames(self, message: Message) -> None:
        for frame in FrameBatch.decode(message.data).frames:
            self.frames.setdefault(frame.request_id, []).append(frame)

    async def last(self, request_id: str) -> Frame:
        """The last frame of a request, once it came."""
        frames = await eventually(
            lambda: (f := self.frames.get(request_id, [])) and f[-1].finish_reason is not None and f
        )
        assert [frame.seq for frame in frames] == list(range(len(frames)))
        return frames[-1]

    async def frames_of(self, request: Generate) -> list[Frame]:
        """All frames of a request."""
        await self.generate(request)
        await self.last(request.request_id)
        return self.frames[request.request_id]


async def memory_replica(
    stack: AsyncExitStack,
    tokenizer: Tokenizer,
    *,
    decoder: Decoder | None = None,
    token_s: float = 0.0,
    slots: int = 2,
    limits: EngineLimits | None = None,
    template: str | None = None,
    spec: DecoderSpec | None = None,
    max_len: int = 64,
    bus: MemoryBus | None = None,
) -> MemoryReplica:
    """A running replica that collects its frames for the gateway `g`; stopped by `stack`."""
    spec = spec or small_spec(tokenizer)
    bus, finished = bus or MemoryBus(), list[FinishedRequest]()
    publisher = await stack.enter_async_context(Publisher(bus).running())
    serving = Serving("replica-1", publisher, finished.append)
    if decoder is None:
        decoder = ScriptedDecoder(slots=slots, max_len=max_len, vocab_size=spec.vocab_size, token_s=token_s)
    engine = Engine(decoder, limits or EngineLimits(), serving.on_step)
    serving.attach(engine)
    engine.start()
    stack.push_async_callback(asyncio.to_thread, engine.close)
    process = None if template is None else await stack.enter_async_context(TemplateProcess(template).running())
    traits = await traits_of(process)
    prompts = PromptBuilder(tokenizer, process, spec, max_len=max_len, traits=traits)
    model = LoadedModel(decoder, tokenizer, template, special_tokens={})
    turns = Turns("prompts", charge=engine.charge)
    tokenization = TokenizationHandler(model, prompts, spec, turns=turns, max_len=max_len)
    handler = GenerateHandler(
        serving,
        engine,
        prompts=prompts,
        tokenizer=tokenizer,
        sampling=SamplingResolver({}, spec, max_len=max_len),
        structured=await structured_output_builder(stack, tokenizer, spec, template),
        turns=turns,
        parallel_calls=traits.parallel_calls,
        thinks=traits.thinks,
    )
    await stack.enter_async_context(serving.running(lambda: bus.connected))
    replica = MemoryReplica(bus, serving, engine, handler, tokenization=tokenization, finished=finished)
    await bus.subscribe(frames_subject("g"), replica.on_frames)
    return replica


def request(request_id: str = "r", *, sampling: dict[str, object] | None = None, **fields: object) -> Generate:
    """A request of the gateway `g`: greedy, eight tokens past any EOS, unless it says otherwise."""
    if not fields.keys() & {"prompt", "messages", "prompt_token_ids"}:
        fields["prompt"] = "hello"
    chosen = Sampling.model_validate({"temperature": 0.0, "ignore_eos": True, "max_tokens": 8} | (sampling or {}))
    return Generate(request_id=request_id, gateway_id="g", sampling=chosen, **fields)  # type: ignore[arg-type]
