"""Sends requests to replicas: offers each to the candidates in order, detects lost ones, cancels abandoned ones.

One request may need several attempts: `services.gateway.dispatch.generation` makes one stream of frames of them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from opentelemetry import trace

from services.gateway.dispatch.cancellations import Cancellations
from services.gateway.dispatch.frame_receiver import Attempt, FrameReceiver
from services.gateway.dispatch.limits import DispatchLimits
from services.gateway.dispatch.loss import LossDetector, has_been_silent
from services.gateway.dispatch.offering import Refused, bus_lost, offer
from services.gateway.dispatch.requests import GenerationRequest
from services.gateway.metrics import Metrics
from services.gateway.routing.live_table import LiveTable
from services.gateway.routing.refusals import Refusals
from services.gateway.routing.table import Candidate
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.manifest import Task
from shared.contracts.replica import Generate, generate_endpoint
from shared.deadlines import BUS_RETURN_S, LOAD_FRESH_S
from shared.errors import DeadlineExceeded, Overloaded, Unavailable
from shared.service.background import background
from shared.telemetry import genai

tracer = trace.get_tracer("llmos.gateway")

WATCH_EVERY_S = 0.25
"""How often the replicas of running requests are checked."""
_BUS_POLL_S = 0.05
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

    async def bus_returns(self, deadline: float) -> None:
        """Wait while the bus can't be reached; raises `Unavailable` after `BUS_RETURN_S`, or at the deadline."""
        if self.bus.connected:
            return
        try:
            async with asyncio.timeout(min(BUS_RETURN_S, deadline - self.clock())):
                while not self.bus.connected:  # noqa: ASYNC110  # a bus has no event for its return
                    await asyncio.sleep(_BUS_POLL_S)
        except TimeoutError:
            raise bus_lost() from None

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

    async def place_together(self, requests: Sequence[GenerationRequest]) -> list[Attempt]:
        """Have one replica accept several answers to one prompt, all or none; raises what `place` raises."""
        first = requests[0]
        generate = first.generate.model_copy(update={"further": tuple(each.as_further() for each in requests[1:])})
        return await self._place(requests, generate, number=0, of=None)

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
        update = {"request_id": attempt_id(request.request_id, number), "resume_token_ids": tokens}
        generate = request.generate.model_copy(update=update)
        return (await self._place((request,), generate, number=number, of=of))[0]

    async def _place(
        self, requests: Sequence[GenerationRequest], generate: Generate, *, number: int, of: tuple[str, int] | None
    ) -> list[Attempt]:
        await self.bus_returns(requests[0].deadline)
        task: Task = "generate" if generate.speech is None else "transcribe"
        candidates = self.route(requests[0].deployment, number, of=of, task=task)
        placed = await offer(
            requests[0],
            candidates,
            lambda candidate: self._send(candidate, requests[0], generate),
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

    async def _send(self, candidate: Candidate, request: GenerationRequest, generate: Generate) -> list[Attempt]:
        """Have one replica accept a request for one or several answers; raises its refusal."""
        replica_id = candidate.replica_id
        resumed = generate.resume_token_ids
        if not resumed:  # a resumed request has a place in every queue
            self._check_refusals(replica_id, request)
        ids = (generate.request_id, *(each.request_id for each in generate.further))
        attempts = [self.attempt(each, candidate, request.tokens + len(resumed)) for each in ids]
        for attempt in attempts:
            self._frames.expect(attempt)
        timeout = self._accept_timeout(request)
        generate = generate.model_copy(update={"time_left_s": request.time_left(self.clock())})
        reply = asyncio.ensure_future(call(self.bus, generate_endpoint(replica_id), generate, timeout=timeout))
        try:
            prompt = await asyncio.shield(reply)
        except BaseException as error:
            for attempt in attempts:
                self._drop(attempt)
                if isinstance(error, asyncio.CancelledError):
                    # The client left while the replica decides: a cancellation before it would find no request.
                    self._cancellations.cancel(attempt, after=reply)
                elif isinstance(error, DeadlineExceeded):
                    self._cancellations.cancel(attempt)
            if isinstance(error, Overloaded) and error.param is None:  # else it refuses that field only
                self._refusals.remember(replica_id, generate.tenant, error, tokens=request.tokens, now=self.clock())
            if isinstance(error, DeadlineExceeded) and (silence := self._silence(replica_id)):
                raise Unavailable(silence) from error
            raise
        for attempt in attempts:
            attempt.prompt, attempt.accepted = prompt, True
            self._losses.accepted(attempt.watched, self.clock())
            self.table.accepted(replica_id, attempt.id)
        return attempts

    def _silence(self, replica_id: str) -> str | None:
        """For how long a replica has given no sign of life, in words; None: it does."""
        seconds = self._losses.silence(replica_id, self.clock())
        return has_been_silent(seconds) if seconds > LOAD_FRESH_S else None

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
