"""Waiting for a deployment ends when all of it answers, or when it is no longer the one that was asked for."""

import pytest

from llmos.client import wait_ready
from shared.contracts.scheduler import Deployment, DeploymentStatus
from shared.errors import Conflict, Unavailable


class Deployments:
    """A client whose deployment has one state after the other."""

    def __init__(self, *states: DeploymentStatus) -> None:
        self._states = list(states)

    def deployment(self, name: str) -> DeploymentStatus:
        assert name == "chat"
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


def state(ready: int, **fields: object) -> DeploymentStatus:
    deployment = Deployment.EXAMPLE.model_copy(update={"name": "chat", "replicas": 2} | fields)
    return DeploymentStatus(deployment=deployment, ready=ready)


def test_it_waits_for_all_replicas():
    seen = [status.ready for status in wait_ready(Deployments(state(0), state(1), state(2)), "chat", 30)]
    assert seen == [0, 1, 2]


def test_a_paused_deployment_is_not_waited_for():
    assert len(list(wait_ready(Deployments(state(0, replicas=0)), "chat", 30))) == 1


def test_one_that_is_overtaken_says_by_whom():
    overtaken = state(0, revision=2, version=3, changed_by="key-b")
    with pytest.raises(Conflict, match="changed meanwhile by key-b: revision 2 runs smollm2:3"):
        list(wait_ready(Deployments(state(0), overtaken), "chat", 30))


def test_what_is_missing_in_the_end_is_counted():
    with pytest.raises(Unavailable, match="1 of 2 replicas of chat are not ready after 0 s"):
        list(wait_ready(Deployments(state(1)), "chat", 0.3))
