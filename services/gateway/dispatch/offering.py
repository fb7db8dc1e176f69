"""Offers one request to replicas in order: the next one when one refuses."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from services.gateway.dispatch.requests import EncodeRequest, GenerationRequest
from services.gateway.metrics import Metrics
from services.gateway.routing.table import Candidate
from shared.errors import DeadlineExceeded, Disconnected, LlmosError, Overloaded, Unavailable

_log = structlog.get_logger("llmos.gateway")

RETRY_S = 1.0
"""What `Retry-After` says when a replica named no time."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Refused:
    """All candidates have refused a request."""

    deployment: str
    candidates: Sequence[Candidate]
    errors: Sequence[LlmosError]
    """The candidates', in order."""

    def error(self) -> LlmosError:
        """The error for the client."""
        retry_after = min((error.retry_after for error in self.errors if error.retry_after), default=RETRY_S)
        if self.errors and all(isinstance(error, Overloaded) and error.param for error in self.errors):
            return self.errors[0]
        if any(isinstance(error, Overloaded) for error in self.errors):
            return Overloaded(
                f"all {len(self.candidates)} replicas of {self.deployment!r} are at their limit"
                if len(self.candidates) > 1
                else f"the replica of {self.deployment!r} is at its limit",
                retry_after=retry_after,
            )
        reasons = "; ".join(
            f"{candidate.replica_id}: {error.message}"
            for candidate, error in zip(self.candidates, self.errors, strict=True)
        )
        return Unavailable(f"no replica of {self.deployment!r} took the request: {reasons}", retry_after=retry_after)


def bus_lost() -> Unavailable:
    """The error for the client while the bus can't be reached."""
    return Unavailable("the gateway has lost its message bus; it reconnects by itself", retry_after=RETRY_S)


async def offer(
    request: GenerationRequest | EncodeRequest,
    candidates: Sequence[Candidate],
    send: Callable[[Candidate], Awaitable[Result]],
    *,
    late: str,
    clock: Callable[[], float],
    metrics: Metrics,
) -> Result | Refused:
    """The result of the first candidate that takes the request, or all refusals.

    Args:
        request: Of which its deadline is checked here.
        candidates: The replicas, best first.
        send: Sends the request to one replica.
        late: The message where the deadline has passed.
        clock: Seconds on the monotonic clock.
        metrics: Count the refusals.

    Raises:
        Unavailable: The bus connection is down.
        DeadlineExceeded: The request's deadline has passed.
        LlmosError: The replica says what is wrong with the request.
    """
    errors: list[LlmosError] = []
    for candidate in candidates:
        try:
            return await send(candidate)
        except Disconnected as error:
            raise bus_lost() from error
        except LlmosError as error:
            if request.deadline <= clock():
                raise DeadlineExceeded(late) from error
            if not error.retryable and not isinstance(error, DeadlineExceeded):
                raise
            errors.append(error)
            metrics.refused(request.deployment, error.code)
            _log.info("replica.refused", replica=candidate.replica_id, request=request.request_id, code=error.code)
    return Refused(request.deployment, candidates, errors)
