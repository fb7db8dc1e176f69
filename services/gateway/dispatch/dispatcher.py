"""Sends requests to replicas: offers each to the candidates in order, detects lost ones, cancels abandoned ones.

One request may need several attempts: `services.gateway.dispatch.generation` makes one stream of frames of them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from opentelemetry import trace

from services.gateway.dispatch.cancellations import Cancellations
from services.gateway.dispatch.frame_receiver import Attempt, FrameReceiver
from services.gateway.dispatch.limits import DispatchLimits
from services.gateway.dispatch.loss import LossDetector
from services.gateway.dispatch.offering import Refused, offer
from services.gateway.dispatch.requests import GenerationRequest
from services.gateway.metrics import Metrics
from services.gateway.routing.live_table import LiveTable
from services.gateway.routing.refusals import Refusals
from services.gateway.routing.table import Candidate
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.manifest import Task
from shared.contracts.replica import Generate, generate_endpoint
from shared.errors import DeadlineExceeded, LlmosError, Overloaded
from shared.service.background import background
from shared.telemetry import genai

tracer = trace.get_tracer("llmos.gateway")

WATCH_EVERY_S = 0.25
"""How often the replicas of running requests are checked."""
PROMPT_BYTES_PER_S = 1_000_000
"""A replica renders and tokenises a prompt at least this fast before it accepts or rejects."""
GRAMMAR_S = 10.0
"""A replica compiles a grammar that is new to it within this time before it accepts or rejects."""


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
        self.bus = bus
        self.table = table
        self.metrics = metrics
        self.limits = limits
        self.gateway_id = gateway_id
        self.clock = clock
        self._frames = FrameReceiver(bus, gateway_id, clock)
        self._cancellations = Cancellations(bus)
        self._refusals = Refusals()
        self._losses = LossDetector()
        table.follow(self._losses)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Dispatcher"]:
        """Receive frames and watch replicas while the block runs."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._frames.running())
            await stack.enter_async_context(self._cancellations.running())
            await stack.enter_async_context(background(self._watch(), "watch replicas"))
            yield self

    def route(
        self, deployment: str, number: int, *, of: tuple[str, int] | None = None, task: Task = "generate"
    ) -> list[Candidate]:
        """The replicas for attempt `number` of a request, best first; raises what `RoutingTable.choose` raises."""
        with tracer.start_as_current_span("route") as span:
            candidates = self.table.choose(deployment, of=of, task=task)
            span.set_attribute(genai.DEPLOYMENT, deployment)
            span.set_attribute(genai.CANDIDATES, [candidate.replica_id for candidate in candidates])
            span.set_attribute(genai.ATTEMPT, number + 1)
            span.set_attribute(genai.ROUTING_REASON, "least_tokens")
        return candidates

    async def place(
        self, request: GenerationRequest, *, number: int, of: tuple[str, int] | None, tokens: tuple[int, ...]
    ) -> Attempt:
        """Have a replica accept the request.

        Args:
            request: The request.
            number: Of the attempt, from 0.
            of: Only a replica of this (model, version).
            tokens: What earlier attempts generated.

        Raises:
            Overloaded, Unavailable: No replica takes it now, with `retry_after`.
            NotFound: There is no such deployment.
            DeadlineExceeded: The request's deadline has passed.
            LlmosError: The replica says what is wrong with the request.
        """
        candidates = self.route(request.deployment, number, of=of)
        update = {"request_id": attempt_id(request.request_id, number), "resume_token_ids": tokens}
        generate = request.generate.model_copy(update=update)
        placed = await offer(
            request,
            candidates,
            lambda candidate: self._send(candidate, request, generate),
            late="the request's time was over before a replica took it",
            clock=self.clock,
            metrics=self.metrics,
        )
        if isinstance(placed, Refused):
            raise placed.error()
        return placed

    def attempt(self, request_id: str, candidate: Candidate, tokens: int) -> Attempt:
        """A request of about `tokens` prompt tokens is about to be sent to a replica."""
        self.table.sent(candidate.replica_id, request_id, tokens)
        return Attempt(request_id, candidate, self._losses.watch(candidate.replica_id))

    def lost(self, attempt: Attempt) -> str | None:
        """Why an attempt is lost, or None while its replica works on it."""
        self.table.refresh()
        return self._losses.lost(attempt.watched, self.clock())

    def release(self, attempt: Attempt) -> None:
        """Stop receiving frames, and cancel the request at its replica unless it has finished."""
        unfinished = self._drop(attempt)
        if unfinished and attempt.accepted:
            self._cancellations.cancel(attempt)

    def _drop(self, attempt: Attempt) -> bool:
        """Forget an attempt locally; returns whether its replica may still work on it."""
        unfinished = not attempt.finished
        attempt.over = True
        self._frames.forget(attempt)
        self.table.finished(attempt.replica.replica_id, attempt.id)
        return unfinished

    async def _send(self, candidate: Candidate, request: GenerationRequest, generate: Generate) -> Attempt:
        """Have one replica accept the request; raises its refusal."""
        replica_id = candidate.replica_id
        resumed = generate.resume_token_ids
        if not resumed:  # a resumed request has a place in every queue
            self._check_refusals(replica_id, request)
        attempt = self.attempt(generate.request_id, candidate, request.tokens + len(resumed))
        self._frames.expect(attempt)
        timeout = self._accept_timeout(request)
        generate = generate.model_copy(update={"time_left_s": request.time_left(self.clock())})
        reply = asyncio.ensure_future(call(self.bus, generate_endpoint(replica_id), generate, timeout=timeout))
        try:
            attempt.prompt = await asyncio.shield(reply)
        except asyncio.CancelledError:
            # The client left while the replica decides: a cancellation before the decision would find no request.
            self._drop(attempt)
            self._cancellations.cancel(attempt, after=reply)
            raise
        except DeadlineExceeded:
            self._drop(attempt)
            self._cancellations.cancel(attempt)
            raise
        except LlmosError as error:
            self._drop(attempt)
            if isinstance(error, Overloaded) and error.param is None:  # else it refuses that field only
                self._refusals.remember(replica_id, generate.tenant, error, tokens=request.tokens, now=self.clock())
            raise
        attempt.accepted = True
        self._losses.accepted(attempt.watched, self.clock())
        self.table.accepted(replica_id, attempt.id)
        return attempt

    def _accept_timeout(self, request: GenerationRequest) -> float:
        """Seconds for a replica to accept or reject."""
        needed = self.limits.accept + request.prompt_bytes / PROMPT_BYTES_PER_S
        if request.generate.grammar is not None or request.generate.tools:
            needed += GRAMMAR_S
        return max(0.001, min(needed, request.deadline - self.clock()))

    def _check_refusals(self, replica_id: str, request: GenerationRequest) -> None:
        """Raise the replica's last refusal while it would refuse again."""
        standing = self._refusals.standing(
            replica_id, request.generate.tenant, tokens=request.tokens, now=self.clock()
        )
        if standing is not None:
            raise standing

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            now = self.clock()
            if self.bus.connected:
                self._losses.connected(now)
            else:
                self._losses.disconnected(now)
            self.table.refresh()
            for attempt in self._frames.attempts:
                if attempt.accepted and not attempt.over and (reason := self._losses.lost(attempt.watched, now)):
                    attempt.lose(reason)


def attempt_id(request_id: str, number: int) -> str:
    """The request id of attempt `number` at its replica: late frames of another attempt have another id."""
    return request_id if number == 0 else f"{request_id}.r{number}"
