from dataclasses import dataclass, field

import pytest

from services.gateway.routing.start_up import StartUp
from shared.contracts.scheduler import Deployment

TWO = {
    "chat": Deployment.EXAMPLE.model_copy(update={"name": "chat", "replicas": 1}),
    "embed": Deployment.EXAMPLE.model_copy(update={"name": "embed", "replicas": 2}),
    "paused": Deployment.EXAMPLE.model_copy(update={"name": "paused", "replicas": 0}),
}


@dataclass
class Table:
    """What `StartUp` asks of a `LiveTable`."""

    deployments: dict[str, Deployment] = field(default_factory=lambda: dict(TWO))
    synced: bool = True
    replicas: dict[str, int] = field(default_factory=dict)

    def ready(self, name):
        return self.replicas.get(name, 0)


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def now():
    return [100.0]


def start_up(table, now, timeout=60.0):
    return StartUp(table, timeout, lambda: now[0])


def test_a_gateway_waits_for_a_replica_of_each_deployment_that_wants_one(table, now):
    starting = start_up(table, now)
    assert starting.problem() == "no replica is ready yet of chat, embed"
    table.replicas["embed"] = 1
    assert starting.problem() == "no replica is ready yet of chat"
    table.replicas["chat"] = 1
    assert starting.problem() is None


def test_a_replica_that_is_lost_later_makes_no_gateway_unready(table, now):
    table.replicas = {"chat": 1, "embed": 1}
    starting = start_up(table, now)
    assert starting.problem() is None
    table.replicas = {}
    assert starting.problem() is None


def test_a_deployment_that_cannot_start_holds_a_gateway_up_for_a_bounded_time(table, now):
    starting = start_up(table, now)
    assert starting.problem() is not None
    now[0] += 59.9
    assert starting.problem() is not None
    now[0] += 0.1
    assert starting.problem() is None


def test_the_time_counts_from_when_the_state_was_read(table, now):
    table.synced = False
    starting = start_up(table, now)
    assert starting.problem() is None, "that the state is not read yet is a reason of its own"
    now[0] += 1000
    table.synced = True
    assert starting.problem() is not None


def test_by_default_a_gateway_waits_for_nothing(table, now):
    assert start_up(table, now, timeout=0.0).problem() is None
