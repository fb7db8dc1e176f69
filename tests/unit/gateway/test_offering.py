"""A request is offered to replicas in order until one takes it."""

import pytest

from services.gateway.dispatch.offering import Refused, offer
from services.gateway.dispatch.requests import EncodeRequest
from services.gateway.metrics import Metrics
from services.gateway.routing.table import Candidate
from shared.errors import DeadlineExceeded, Disconnected, Draining, InvalidInput, LlmosError, Overloaded, Unavailable

NOW = 1000.0
CANDIDATES = [Candidate(name, "m", 1) for name in "abc"]


class Replicas:
    """Each raises its refusal, or replies with its id."""

    def __init__(self, **refusals: LlmosError) -> None:
        self.refusals = refusals
        self.offered: list[str] = []

    async def send(self, candidate: Candidate) -> str:
        self.offered.append(candidate.replica_id)
        if refusal := self.refusals.get(candidate.replica_id):
            raise refusal
        return candidate.replica_id


async def offered(replicas: Replicas, metrics: Metrics | None = None, *, left: float = 10.0) -> str | Refused:
    request = EncodeRequest("r", "m", "embed", tokens=3, deadline=NOW + left)
    return await offer(
        request, CANDIDATES, replicas.send, late="too late", clock=lambda: NOW, metrics=metrics or Metrics()
    )


async def test_the_first_that_takes_the_request_is_the_last_one_asked() -> None:
    replicas, metrics = Replicas(a=Overloaded("full"), c=Overloaded("full")), Metrics()
    assert await offered(replicas, metrics) == "b"
    assert replicas.offered == ["a", "b"]
    assert 'llmos_replica_refusals_total{code="overloaded",model="m"} 1.0' in metrics.render().decode()


async def test_a_replica_that_does_not_reply_in_time_is_a_refusal() -> None:
    assert await offered(Replicas(a=DeadlineExceeded("no reply"))) == "b"


async def test_what_is_wrong_with_the_request_is_raised_at_once() -> None:
    replicas = Replicas(a=InvalidInput("too long"))
    with pytest.raises(InvalidInput, match="too long"):
        await offered(replicas)
    assert replicas.offered == ["a"]


async def test_a_lost_bus_connection_is_raised_at_once_as_unavailable() -> None:
    replicas = Replicas(a=Disconnected("no connection"))
    with pytest.raises(Unavailable, match="lost its message bus") as error:
        await offered(replicas)
    assert error.value.retry_after
    assert replicas.offered == ["a"]


async def test_after_the_deadline_no_further_replica_gets_the_request() -> None:
    replicas = Replicas(a=Overloaded("full"))
    with pytest.raises(DeadlineExceeded, match="too late"):
        await offered(replicas, left=0.0)
    assert replicas.offered == ["a"]


@pytest.mark.parametrize(
    ("refusals", "error", "message", "retry_after"),
    [
        ({"a": Overloaded("full", retry_after=3), "b": Draining("I go"), "c": Overloaded("full", retry_after=2)},
         Overloaded, "all 3 replicas of 'm' are at their limit", 2),
        ({"a": Draining("I go"), "b": Unavailable("away"), "c": Draining("I go, too")},
         Unavailable, "a: I go; b: away; c: I go, too", 1.0),
    ],
)  # fmt: skip
async def test_when_all_refuse_the_error_sums_up_their_reasons(
    refusals: dict[str, LlmosError], error: type[LlmosError], message: str, retry_after: float
) -> None:
    result = await offered(Replicas(**refusals))
    assert isinstance(result, Refused)
    assert type(result.error()) is error
    assert message in result.error().message
    assert result.error().retry_after == retry_after


async def test_a_refusal_of_one_field_is_told_as_it_is() -> None:
    grammars = Overloaded("16 new grammars wait already; try again in 1 s", param="response_format", retry_after=1.0)
    refused = await offered(Replicas(a=grammars, b=grammars, c=grammars))
    assert isinstance(refused, Refused)
    error = refused.error()
    assert (error.message, error.param, error.retry_after) == (grammars.message, "response_format", 1.0)
