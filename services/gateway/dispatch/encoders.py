"""Asks encoders' replicas: one request, one answer, asked again elsewhere when its replica is lost.

Nothing of an answer has left the gateway before it is whole, so a lost replica costs only time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from opentelemetry import trace

from services.gateway.dispatch.dispatcher import RETRY_S, WATCH_EVERY_S, Dispatcher, all_refused
from services.gateway.dispatch.frame_receiver import Attempt
from services.gateway.routing.table import Candidate
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.base import Contract, Endpoint
from shared.contracts.embedding import Classify, Embed
from shared.contracts.manifest import Task
from shared.errors import DeadlineExceeded, Disconnected, LlmosError, ReplicaLost, Unavailable
from shared.telemetry import genai

log = structlog.get_logger("llmos.gateway")
tracer = trace.get_tracer("llmos.gateway")

POLL_S = 0.2
"""How often another replica is looked for after one was lost."""

Asked = TypeVar("Asked", Embed, Classify)
Answer = TypeVar("Answer", bound=Contract)


@dataclass(frozen=True, slots=True)
class EncoderInquiry:
    """Where a request goes, and how much it is."""

    deployment: str
    task: Task
    tokens: int
    """Roughly."""
    deadline: float
    """Seconds on the monotonic clock."""


class Encoders:
    """All encoders that this gateway can ask.

    Args:
        bus: To their replicas.
        dispatcher: Its table chooses, its metrics count, and it tells replicas what nobody wants any more.
    """

    def __init__(self, bus: Bus, dispatcher: Dispatcher) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._table = dispatcher.table

    async def ask(
        self, inquiry: EncoderInquiry, endpoint: Callable[[str], Endpoint[Asked, Answer]], request: Asked
    ) -> Answer:
        """The answer of a replica of `inquiry.deployment`. Cancelling this drops the request at the replica.

        Raises:
            NotFound: There is no such deployment.
            InvalidInput: It does another task, or the replica says what is wrong with the request.
            Overloaded, Unavailable: No replica takes it now, with `retry_after`.
            DeadlineExceeded: The request's time is over.
        """
        clock, give_up = self._dispatcher.clock, 0.0
        number = 0
        while True:
            lost = False
            candidates = self._choose(inquiry, number)
            refusals: list[LlmosError] = []
            for candidate in candidates:
                number += 1
                named = (
                    request
                    if number == 1
                    else request.model_copy(update={"request_id": f"{request.request_id}.r{number - 1}"})
                )
                try:
                    return await self._ask_one(candidate, inquiry, endpoint(candidate.replica_id), named)
                except Disconnected as error:
                    raise Unavailable(
                        "the gateway has lost its message bus; it reconnects by itself", retry_after=RETRY_S
                    ) from error
                except LlmosError as error:
                    if inquiry.deadline <= clock():
                        raise DeadlineExceeded("the answer was not complete within the request's time") from error
                    if not error.retryable:
                        raise
                    lost = lost or isinstance(error, ReplicaLost)
                    refusals.append(error)
                    self._dispatcher.metrics.refused(candidate.replica_id, error.code)
                    log.info("replica_refused", replica=candidate.replica_id, code=error.code)
            give_up = give_up or (clock() + self._dispatcher.limits.resume if lost else 0.0)
            if clock() >= give_up:
                raise all_refused(inquiry.deployment, candidates, refusals)
            await asyncio.sleep(POLL_S)

    def _choose(self, inquiry: EncoderInquiry, number: int) -> list[Candidate]:
        with tracer.start_as_current_span("route") as span:
            candidates = self._table.choose(inquiry.deployment, task=inquiry.task)
            span.set_attribute(genai.DEPLOYMENT, inquiry.deployment)
            span.set_attribute(genai.CANDIDATES, [candidate.replica_id for candidate in candidates])
            span.set_attribute(genai.ATTEMPT, number + 1)
            span.set_attribute(genai.ROUTING_REASON, "least_tokens")
        return candidates

    async def _ask_one(
        self, candidate: Candidate, inquiry: EncoderInquiry, endpoint: Endpoint[Asked, Answer], request: Asked
    ) -> Answer:
        """The answer of one replica; raises `ReplicaLost` as soon as it is taken for gone."""
        timeout = max(0.001, inquiry.deadline - self._dispatcher.clock())
        attempt = Attempt(request.request_id, candidate, accepted=True)
        self._table.sent(candidate.replica_id, request.request_id, inquiry.tokens)
        answering = asyncio.ensure_future(call(self._bus, endpoint, request, timeout=timeout))
        try:
            while not (await asyncio.wait((answering,), timeout=WATCH_EVERY_S))[0]:
                if reason := self._table.fresh().lost(candidate, self._dispatcher.clock()):
                    raise ReplicaLost(f"the replica {candidate.replica_id} was lost: {reason}", retry_after=RETRY_S)
                if not self._bus.connected:
                    raise ReplicaLost("the connection to the replica was lost", retry_after=RETRY_S)
            attempt.finished = not isinstance(answering.exception(), DeadlineExceeded)
            return answering.result()
        finally:
            answering.cancel()
            self._dispatcher.release(attempt)
