"""One generation: frames in order, resumed on another replica when one is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager

import structlog
from opentelemetry import trace

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.frame_receiver import Attempt, Expired, Lost
from services.gateway.dispatch.requests import GenerationRequest
from services.gateway.dispatch.spans import request_span
from shared.contracts.gateway import FinishReason, Frame
from shared.contracts.replica import Accepted
from shared.errors import (
    DeadlineExceeded,
    Draining,
    Internal,
    Overloaded,
    ReplicaLost,
    Unavailable,
    from_payload,
)
from shared.telemetry import genai

_log = structlog.get_logger("llmos.gateway")

GAPS_AT_ONCE = 32
"""Times between tokens that are added to the metrics together: one by one, each takes six calls in cold caches."""
RESUME_POLL_S = 0.2
"""How often another replica is looked for after one was lost."""


class Generation:
    """A generation in progress. Made by `generating`, after a replica has accepted the request."""

    def __init__(self, dispatcher: Dispatcher, request: GenerationRequest, span: trace.Span) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._span = span
        self._attempt: Attempt | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._tokens: list[int] = []
        self._prompt_scores = 0
        """How many of the prompt's log probabilities were returned."""
        self._prompt_scores_here = 0
        """How many of them came from the present attempt: an attempt without a token sends all of them again."""
        self._tokens_at_loss = -1
        self._losses_in_place = 0
        self._gaps: list[float] = []
        """Seconds between tokens, not yet in the metrics."""

    @property
    def served_by(self) -> str:
        """The version that generates: `smollm2:1`."""
        assert self._attempt is not None
        return f"{self._attempt.replica.model}:{self._attempt.replica.version}"

    @property
    def prompt(self) -> Accepted:
        """The prompt as the replica accepted it."""
        assert self._attempt is not None
        return self._attempt.prompt

    async def frames(self) -> AsyncIterator[Frame]:
        """The frames as if from one replica; the last has a finish reason and the usage.

        Raises:
            DeadlineExceeded: The request's deadline has passed.
            ReplicaLost: The replica was lost, and no other one could resume.
            LlmosError: The replica says what went wrong.
        """
        began = last = self._dispatcher.clock()
        while True:
            assert self._attempt is not None
            event = await self._attempt.events.get()
            if isinstance(event, Lost):
                await self._resume(event.reason)
                continue
            if isinstance(event, Expired):
                raise DeadlineExceeded("the answer was not complete within the request's time")
            if event.error is not None or event.finish_reason in (FinishReason.CANCELLED, FinishReason.ERROR):
                await self._resume(self._resumable(event))
                continue
            event = self._new_scores(event)
            self._tokens.extend(event.token_ids)
            now = self._dispatcher.clock()
            if event.token_ids:
                if len(self._tokens) == len(event.token_ids):
                    self._dispatcher.metrics.first_token(self._request.deployment, now - began)
                else:
                    count = len(event.token_ids)
                    self._gaps += [(now - last) / count] * count
                    if len(self._gaps) >= GAPS_AT_ONCE:
                        self._count_gaps()
                last = now
            if event.finish_reason is not None:
                self._complete(event)
                yield event
                return
            yield event

    def begin(self, attempt: Attempt) -> None:
        """A replica has accepted the request."""
        self._attempt = attempt
        if self._timer is None:
            left = max(0.0, self._request.deadline - self._dispatcher.clock())
            self._timer = asyncio.get_running_loop().call_later(left, self.expire)
        self._number += 1
        self._prompt_scores_here = 0
        replica = self._attempt.replica
        self._span.set_attribute(genai.REPLICA, replica.replica_id)
        self._span.set_attribute(genai.RESPONSE_MODEL, self.served_by)

    def tracing(self) -> AbstractContextManager[trace.Span]:
        """What is traced while the block runs belongs to this generation."""
        return trace.use_span(self._span, end_on_exit=False, record_exception=False)

    def expire(self) -> None:
        """The deadline has passed."""
        if self._attempt is not None:
            self._attempt.events.put(Expired())

    def release(self) -> None:
        """No more frames are read: a replica that has not finished is free again."""
        if self._timer is not None:
            self._timer.cancel()
        self._count_gaps()
        if self._attempt is not None:
            self._dispatcher.release(self._attempt)

    def _count_gaps(self) -> None:
        if self._gaps:  # without a gap, a name that is no model's would get a time series
            self._dispatcher.metrics.next_tokens(self._request.deployment, self._gaps)
            self._gaps = []

    def _new_scores(self, frame: Frame) -> Frame:
        """The frame without the prompt's log probabilities that a lost replica had sent."""
        if frame.prompt_logprobs is None:
            return frame
        known = max(0, self._prompt_scores - self._prompt_scores_here)
        self._prompt_scores_here += len(frame.prompt_logprobs)
        self._prompt_scores = max(self._prompt_scores, self._prompt_scores_here)
        return frame.model_copy(update={"prompt_logprobs": frame.prompt_logprobs[known:]}) if known else frame

    def _resumable(self, frame: Frame) -> str:
        """Why the replica gave the request up, if another one can resume it; otherwise raises the error."""
        if frame.error is None:
            if self._request.deadline <= self._dispatcher.clock():
                raise DeadlineExceeded("the answer was not complete within the request's time")
            if frame.finish_reason is FinishReason.CANCELLED:
                return "it cancelled the request"
            raise Internal("the replica failed without giving a reason")
        error = from_payload(frame.error)
        if isinstance(error, Draining | Unavailable):
            return error.message
        raise error

    async def _resume(self, reason: str) -> None:
        """Continue on another replica, with the same prompt and all tokens so far."""
        assert self._attempt is not None
        lost = self._attempt.replica.replica_id
        self._dispatcher.release(self._attempt)
        self._losses_in_place = 1 if len(self._tokens) > self._tokens_at_loss else self._losses_in_place + 1
        self._tokens_at_loss = len(self._tokens)
        limits = self._dispatcher.limits
        if self._losses_in_place > limits.resumes_in_place:
            raise ReplicaLost(
                f"{self._losses_in_place} replicas were lost on this request at the same token; the last: {reason}"
            )
        _log.warning("replica.lost", replica=lost, reason=reason, tokens=len(self._tokens))
        self._span.add_event("replica lost", {genai.REPLICA: lost, "reason": reason})
        clock = self._dispatcher.clock
        give_up = min(self._request.deadline, clock() + limits.resume)
        while True:
            try:
                with self.tracing():
                    self.begin(await self._place_again())
            except (Overloaded, Draining, Unavailable) as error:
                if clock() >= self._request.deadline:
                    raise DeadlineExceeded("the answer was not complete within the request's time") from error
                if clock() >= give_up:
                    raise ReplicaLost(
                        f"the replica {lost} was lost ({reason}), and none could go on within "
                        f"{limits.resume:g} s: {error.message}",
                        retry_after=error.retry_after or 1.0,
                    ) from error
                await asyncio.sleep(RESUME_POLL_S)
            else:
                self._dispatcher.metrics.resumed(self._request.deployment)
                if clock() >= self._request.deadline:
                    self.expire()
                return

    async def _place_again(self) -> Attempt:
        assert self._attempt is not None
        of = (self._attempt.replica.model, self._attempt.replica.version)
        return await self._dispatcher.place(self._request, number=self._number, of=of, tokens=tuple(self._tokens))

    def _complete(self, frame: Frame) -> None:
        assert frame.finish_reason is not None
        self._span.set_attribute(genai.RESPONSE_FINISH_REASONS, [frame.finish_reason.value])
        if frame.usage is not None:
            self._span.set_attribute(genai.USAGE_INPUT_TOKENS, frame.usage.prompt_tokens)
            self._span.set_attribute(genai.USAGE_OUTPUT_TOKENS, frame.usage.completion_tokens)
            self._span.set_attribute(genai.USAGE_CACHE_READ_INPUT_TOKENS, frame.usage.cached_tokens)
            self._dispatcher.metrics.tokens(self._request.deployment, frame.usage, self._request.generate.tenant)


@asynccontextmanager
async def generating(
    dispatcher: Dispatcher, requests: Sequence[GenerationRequest]
) -> AsyncIterator[list[Generation]]:
    """Generations for one prompt that a replica has accepted. Leaving the block early cancels them.

    Raises what `Dispatcher.place` raises, before the block is entered.
    """
    with ExitStack() as stack:
        generations = [stack.enter_context(_generation(dispatcher, request)) for request in requests]
        with generations[0].tracing():
            attempts = await dispatcher.place_together(requests)
        for generation, attempt in zip(generations, attempts, strict=True):
            generation.begin(attempt)
        yield generations


@contextmanager
def _generation(dispatcher: Dispatcher, request: GenerationRequest) -> Iterator[Generation]:
    """A generation with its span; released at the end of the block."""
    sampling = request.generate.sampling
    chat = request.generate.messages is not None
    operation = genai.OPERATION_CHAT if chat else genai.OPERATION_TEXT_COMPLETION
    chosen = {
        genai.REQUEST_TEMPERATURE: sampling.temperature,
        genai.REQUEST_TOP_P: sampling.top_p,
        genai.REQUEST_TOP_K: sampling.top_k,
    }
    attributes = {name: value for name, value in chosen.items() if value is not None}
    with request_span(operation, request.deployment, request.request_id, attributes) as span:
        generation = Generation(dispatcher, request, span)
        try:
            yield generation
        finally:
            generation.release()
