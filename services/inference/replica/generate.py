"""Takes requests: checks them, opens their stream, and hands them to the engine."""

import time
from collections.abc import Sequence

from opentelemetry import context as otel_context

from services.inference.engine.engine import Engine
from services.inference.engine.sequence import SamplingParams, SequenceRequest
from services.inference.replica.frames import Ending, Stream
from services.inference.replica.prompt import PromptBuilder
from services.inference.replica.serving import Serving
from services.inference.text.answer import Answer
from services.inference.text.tokenizer import Tokenizer
from shared.contracts.gateway import FinishReason
from shared.contracts.manifest import DecoderSpec
from shared.contracts.replica import Accepted, Generate
from shared.errors import ContextLengthExceeded, DeadlineExceeded, Draining


class Generator:
    """The handler of `generate`.

    Args:
        serving: Where accepted requests live.
        engine: Runs them.
        prompts: Makes their prompts.
        tokenizer: The version's.
        spec: The version's; names the EOS tokens.
        max_len: Tokens of prompt and answer that a slot takes.
    """

    def __init__(
        self,
        serving: Serving,
        engine: Engine,
        *,
        prompts: PromptBuilder,
        tokenizer: Tokenizer,
        spec: DecoderSpec,
        max_len: int,
    ) -> None:
        self._serving = serving
        self._engine = engine
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._eos = spec.eos_token_ids
        self._max_len = max_len

    async def __call__(self, request: Generate) -> Accepted:
        """Answers when the request waits in the engine's queue; frames follow.

        Raises `Draining`, `Overloaded`, `DeadlineExceeded`, `ContextLengthExceeded`, `Conflict`, or `InvalidInput`
        with the field.
        """
        accepted_ns = time.time_ns()
        self._check(request, accepted_ns)
        prompt = await self._prompts.token_ids(request)
        self._check(request, time.time_ns())
        max_tokens = fitting_tokens(len(prompt), request.sampling.max_tokens, self._max_len)
        stream = Stream(
            request_id=request.request_id,
            gateway_id=request.gateway_id,
            answer=Answer(
                self._tokenizer,
                request.sampling.stop,
                () if request.sampling.ignore_eos else self._eos,
                request.resume_token_ids,
            ),
            prompt_tokens=len(prompt),
            resumed_tokens=len(request.resume_token_ids),
            max_tokens=max_tokens,
            deadline_ms=request.deadline_ms,
            accepted_ns=accepted_ns,
            context=otel_context.get_current(),
        )
        if (ending := _complete(stream)) is not None:
            self._serving.close_at_once(stream, ending)
        else:
            self._submit(request, prompt, stream)
        return Accepted(prompt_tokens=len(prompt))

    def _check(self, request: Generate, now_ns: int) -> None:
        if self._serving.draining:
            raise Draining("this replica is draining; try another replica")
        if request.deadline_ms is not None and request.deadline_ms <= now_ns // 1_000_000:
            raise DeadlineExceeded("the request's deadline passed before it could start")

    def _submit(self, request: Generate, prompt: Sequence[int], stream: Stream) -> None:
        sampling = request.sampling
        sequence = SequenceRequest(
            request.request_id,
            prompt,
            request.resume_token_ids,
            sampling=SamplingParams(
                max_tokens=stream.max_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                seed=sampling.seed,
                eos_token_ids=self._eos,
                ignore_eos=sampling.ignore_eos,
            ),
        )
        self._serving.open(stream)
        try:
            self._engine.submit(sequence)
        except BaseException:
            self._serving.forget(stream)
            raise


def fitting_tokens(prompt_tokens: int, max_tokens: int | None, max_len: int) -> int:
    """How many tokens an answer may have: `max_tokens`, or all that fit after the prompt if it is None.

    Raises `ContextLengthExceeded` naming all numbers.
    """
    room = max_len - prompt_tokens
    if max_tokens is None:
        if room < 1:
            raise ContextLengthExceeded(
                f"the prompt has {prompt_tokens} tokens, and this deployment takes {max_len} of prompt and answer"
                " together; shorten the prompt, or deploy with a larger max_len",
                param="messages",
            )
        return room
    if max_tokens > room:
        raise ContextLengthExceeded(
            f"the prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}: together"
            f" {prompt_tokens + max_tokens}, and this deployment takes {max_len}; shorten the prompt, lower"
            " max_tokens, or deploy with a larger max_len",
            param="max_tokens",
        )
    return max_tokens


def _complete(stream: Stream) -> Ending | None:
    """Why a resumed answer needs no computing: its replica was lost between its last token and its last frame."""
    if stream.answer.stopped:
        return Ending(FinishReason.STOP)
    if stream.answer.tokens >= stream.max_tokens:
        return Ending(FinishReason.LENGTH)
    return None
