"""Sends requests to replicas: offers each to the candidates in order, notices lost ones, cancels what nobody wants.

One request may need several attempts: `services.gateway.dispatch.generation` strings them together into one answer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from opentelemetry import trace

from services.gateway.dispatch.frame_receiver import Attempt, FrameReceiver
from services.gateway.metrics import Metrics
from services.gateway.routing.live_table import LiveTable
from services.gateway.routing.refusals import Refusals
from services.gateway.routing.table import Candidate
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.replica import Cancel, Generate, cancel_endpoint, generate_endpoint
from shared.errors import DeadlineExceeded, Disconnected, LlmosError, Overloaded, Unavailable
from shared.telemetry import genai

log = structlog.get_logger("llmos.gateway")
tracer = trace.get_tracer("llmos.gateway")

WATCH_EVERY_S = 0.25
"""How often the replicas of running requests are checked."""
PROBATION_S = 2.0
"""After the bus came back, a request that gets no frame for this long is taken to have missed its last one."""
IDLE_REPORTS = 2
"""Load reports in a row saying "nothing to do" after which a request the replica should have is taken for lost."""
CANCEL_TIMEOUT_S = 2.0
PROMPT_BYTES_PER_S = 1_000_000
"""A replica renders and tokenises a prompt at least this fast before it accepts or rejects."""
GRAMMAR_S = 10.0
"""A replica compiles a grammar that is new to it within this time before it accepts or rejects."""
RETRY_S = 1.0
"""What `Retry-After` says when a replica named no time."""


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """How long to wait for whom; all in seconds."""

    accept: float = 2.0
    """For a replica to accept or reject, plus time for a large prompt."""
    resume: float = 30.0
    """For a replica to go on with an answer whose replica was lost."""
    resumes_in_place: int = 3
    """Losses in a row without a new token, after which the request itself is taken for the cause."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request for one answer."""

    deployment: str
    generate: Generate
    deadline: float
    """Seconds on the monotonic clock."""
    prompt_bytes: int

    @property
    def estimate(self) -> int:
        """Prompt tokens, roughly: exact where ids were given, else four bytes each."""
        ids = self.generate.prompt_token_ids
        return len(ids) if ids is not None else self.prompt_bytes // 4 + 1


class Dispatcher:
    """All requests of this gateway that replicas work on."""

    def __init__(
        self,
        bus: Bus,
        table: LiveTable,
        metrics: Metrics,
        *,
        gateway_id: str,
        limits: DispatchLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table = table
        self.metrics = metrics
        self.limits = limits
        self.gateway_id = gateway_id
        self.clock = clock
        self._bus = bus
        self._frames = FrameReceiver(bus, gateway_id)
        self._background: set[asyncio.Task[None]] = set()
        self._refusals = Refusals()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Dispatcher"]:
        """Receive frames and watch replicas while the block runs."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._frames.running())
            stack.push_async_callback(self._finish_background)
            watch = asyncio.create_task(self._watch(), name="watch-replicas")
            stack.callback(watch.cancel)
            yield self

    async def place(
        self, inquiry: Inquiry, *, number: int, of: tuple[str, int] | None, tokens: tuple[int, ...]
    ) -> Attempt:
        """Have a replica accept the request.

        Args:
            inquiry: The request.
            number: Of the attempt, from 0. Later attempts get an id of their own, so that late frames of a lost
                replica are never taken for the new one's.
            of: Only a replica of this (model, version).
            tokens: What earlier attempts generated.

        Raises:
            Overloaded, Unavailable: No replica takes it now, with `retry_after`.
            NotFound: There is no such deployment.
            DeadlineExceeded: The request's time is over.
            LlmosError: What the replica says is wrong with the request.
        """
        with tracer.start_as_current_span("route") as span:
            candidates = self.table.choose(inquiry.deployment, of=of)
            span.set_attribute(genai.DEPLOYMENT, inquiry.deployment)
            span.set_attribute(genai.CANDIDATES, [candidate.replica_id for candidate in candidates])
            span.set_attribute(genai.ATTEMPT, number + 1)
            span.set_attribute(genai.ROUTING_REASON, "least_tokens")
        request_id = inquiry.generate.request_id if number == 0 else f"{inquiry.generate.request_id}.r{number}"
        generate = inquiry.generate.model_copy(update={"request_id": request_id, "resume_token_ids": tokens})
        refusals: list[LlmosError] = []
        for candidate in candidates:
            attempt = Attempt(request_id, candidate)
            try:
                if not tokens:  # what goes on has a place in any queue
                    self._check_refusals(candidate.replica_id, inquiry)
                await self._offer(attempt, inquiry, generate)
            except Disconnected as error:
                raise Unavailable(
                    "the gateway has lost its message bus; it reconnects by itself", retry_after=RETRY_S
                ) from error
            except LlmosError as error:
                if inquiry.deadline <= self.clock():
                    raise DeadlineExceeded("the request's time was over before a replica took it") from error
                if not error.retryable and not isinstance(error, DeadlineExceeded):
                    raise
                refusals.append(error)
                self.metrics.refused(candidate.replica_id, error.code)
                log.info("replica_refused", replica=candidate.replica_id, request=request_id, code=error.code)
            else:
                return attempt
        raise all_refused(inquiry.deployment, candidates, refusals)

    def release(self, attempt: Attempt) -> None:
        """No more frames are wanted; the replica is told to stop unless it has finished."""
        if self._drop(attempt) and attempt.accepted:
            self._in_background(self._cancel(attempt))

    def _drop(self, attempt: Attempt) -> bool:
        """Forget an attempt locally; answers whether its replica may still work on it."""
        unfinished = not attempt.finished
        attempt.over = True
        self._frames.forget(attempt)
        self.table.finished(attempt.replica.replica_id, attempt.id)
        return unfinished

    async def _offer(self, attempt: Attempt, inquiry: Inquiry, generate: Generate) -> None:
        replica_id = attempt.replica.replica_id
        patience = self.limits.accept + inquiry.prompt_bytes / PROMPT_BYTES_PER_S
        if generate.grammar is not None or generate.tools:
            patience += GRAMMAR_S
        timeout = max(0.001, min(patience, inquiry.deadline - self.clock()))
        self._frames.expect(attempt)
        self.table.sent(replica_id, attempt.id, inquiry.estimate + len(generate.resume_token_ids))
        answer = asyncio.ensure_future(call(self._bus, generate_endpoint(replica_id), generate, timeout=timeout))
        try:
            accepted = await asyncio.shield(answer)
        except asyncio.CancelledError:
            # The client left while the replica decides: it must be told after it has decided, not before.
            self._drop(attempt)
            self._in_background(self._cancel(attempt, after=answer))
            raise
        except DeadlineExceeded:
            self._drop(attempt)
            self._in_background(self._cancel(attempt))
            raise
        except LlmosError as error:
            self._drop(attempt)
            if isinstance(error, Overloaded):
                self._refusals.remember(replica_id, generate.tenant, error, tokens=inquiry.estimate, now=self.clock())
            raise
        attempt.accepted = True
        attempt.prompt = accepted
        self.table.accepted(replica_id, attempt.id)

    def _check_refusals(self, replica_id: str, inquiry: Inquiry) -> None:
        """Raise what the replica said a moment ago, if it would say it again."""
        standing = self._refusals.standing(
            replica_id, inquiry.generate.tenant, tokens=inquiry.estimate, now=self.clock()
        )
        if standing is not None:
            raise standing

    async def _cancel(self, attempt: Attempt, *, after: "asyncio.Future[Any] | None" = None) -> None:
        if after is not None:
            await asyncio.wait((after,))
            refusal = after.exception()
            if refusal is not None and not isinstance(refusal, DeadlineExceeded):
                return
        replica_id = attempt.replica.replica_id
        try:
            await call(
                self._bus, cancel_endpoint(replica_id), Cancel(request_id=attempt.id), timeout=CANCEL_TIMEOUT_S
            )
        except LlmosError as error:
            # A replica that is gone has nothing left to cancel.
            log.info("cancel_not_delivered", replica=replica_id, request=attempt.id, code=error.code)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _finish_background(self) -> None:
        if self._background:
            await asyncio.wait(self._background, timeout=2 * CANCEL_TIMEOUT_S)

    async def _watch(self) -> None:
        connected = self._bus.connected
        probation: dict[str, tuple[float, int]] = {}
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            now = self.clock()
            came_back, connected = not connected and self._bus.connected, self._bus.connected
            waiting = [attempt for attempt in self._frames.attempts if attempt.accepted and not attempt.over]
            table = self.table.fresh()
            if came_back:
                probation = {attempt.id: (now + PROBATION_S, attempt.next_seq) for attempt in waiting}
            for attempt in waiting:
                until, seq = probation.get(attempt.id, (now + 1, -1))
                if reason := table.lost(attempt.replica, now):
                    attempt.lose(reason)
                elif self.table.idle_reports(attempt.replica.replica_id) >= IDLE_REPORTS:
                    attempt.lose("it says that it has nothing to do: the last frames were lost")
                elif now >= until and attempt.next_seq == seq:
                    attempt.lose("no frame came after the bus connection was restored")
            probation = {key: value for key, value in probation.items() if now < value[0]}


def all_refused(deployment: str, candidates: list[Candidate], refusals: list[LlmosError]) -> LlmosError:
    """What to tell a client whose request no replica took; `refusals` are the candidates', in order."""
    retry_after = min((refusal.retry_after for refusal in refusals if refusal.retry_after), default=RETRY_S)
    if any(isinstance(refusal, Overloaded) for refusal in refusals):
        return Overloaded(
            f"all {len(candidates)} replicas of {deployment!r} are at their limit; try again later"
            if len(candidates) > 1
            else f"the replica of {deployment!r} is at its limit; try again later",
            retry_after=retry_after,
        )
    reasons = "; ".join(
        f"{candidate.replica_id}: {refusal.message}" for candidate, refusal in zip(candidates, refusals, strict=True)
    )
    return Unavailable(f"no replica of {deployment!r} took the request: {reasons}", retry_after=retry_after)
