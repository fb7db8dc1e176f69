"""`kill -9` of each part in turn: the system is whole again without a hand, and nothing is lost."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.support.harness.embedded import Embedded, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SERVICES = {"registry", "scheduler", "inference", "gateway", "monitor", "replica"}
WHOLE_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[Embedded]:
    with Embedded(tmp_path_factory.mktemp("chaos"), demo=True) as system:
        yield system


def _is_whole(system: Embedded) -> bool:
    """Every service is healthy, the one model and deployment are there, and it answers."""
    try:
        with system.http(timeout=10) as client:
            health = client.get("/llmos/v1/health").raise_for_status().json()["instances"]
            models = client.get("/llmos/v1/models").raise_for_status().json()["models"]
            deployments = client.get("/llmos/v1/deployments").raise_for_status().json()["deployments"]
        ready = {item["heartbeat"]["service"] for item in health if item["up"] and item["heartbeat"]["ready"]}
        return (
            ready == SERVICES
            and [model["name"] for model in models] == ["smollm2"]
            and [item["ready"] for item in deployments] == [1]
            and "Paris" in system.ask()
        )
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    "what", ["registry", "scheduler", "monitor", "gateway", "replica", "inference", "nats-server"]
)
def test_kill_9_is_mended_without_a_hand(system, what):
    until(lambda: _is_whole(system), WHOLE_TIMEOUT_S, "whole before the kill")
    victim = system.pid_of(what)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in system.processes(), 10, f"{what} is gone")
    until(lambda: _is_whole(system), WHOLE_TIMEOUT_S, f"whole after kill -9 of {what}")
    assert system.pid_of(what) != victim
    # nats-server, five services, one replica, and the launcher itself: nothing doubled, no orphan
    assert len(system.processes()) == 8, system.processes()


@pytest.mark.parametrize("what", ["registry", "scheduler", "monitor"])
def test_a_running_model_answers_while_the_control_plane_is_down(system, what):
    until(lambda: _is_whole(system), WHOLE_TIMEOUT_S, "whole")
    victim = system.pid_of(what)
    os.kill(victim, signal.SIGSTOP)
    try:
        assert "Paris" in system.ask()
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: _is_whole(system), WHOLE_TIMEOUT_S, "whole again")
