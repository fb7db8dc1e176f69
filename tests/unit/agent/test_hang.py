"""When the agent ends a replica's process."""

import pytest

from services.inference.agent.hang import LOOK_S, HangDetector
from shared.contracts.scheduler import ReplicaState
from shared.deadlines import LEASE_RENEW_S, LEASE_TTL_S, SILENCE_RESTART_S, STALL_RESTART_S

LOAD_TIMEOUT_S = 300.0
READY, STALLED, LOADING = ReplicaState.READY, ReplicaState.STALLED, ReplicaState.LOADING


class Watched:
    def __init__(self):
        self.detector = HangDetector(LOAD_TIMEOUT_S)
        self.now = 50.0

    def says(self, state, seconds, *, every=LEASE_RENEW_S):
        """The last verdict after the replica has said `state` for so long."""
        verdict = None
        for _ in range(round(seconds / every)):
            self.now += every
            verdict = self.detector.look(state, self.now)
        return verdict


def test_a_replica_that_has_stalled_for_half_a_minute_is_ended():
    watched = Watched()
    assert watched.says(READY, 5) is None
    assert watched.says(STALLED, STALL_RESTART_S - 1) is None
    assert watched.says(STALLED, 3) == "had stalled for 30 s"


def test_one_that_recovers_begins_again():
    watched = Watched()
    for _ in range(5):
        assert watched.says(STALLED, STALL_RESTART_S - 1) is None
        assert watched.says(READY, 1) is None


def test_a_ready_replica_that_falls_silent_is_ended():
    """It was stopped, or its event loop hangs: then it can't say that it has stalled."""
    watched = Watched()
    watched.says(READY, 5)
    assert watched.says(None, SILENCE_RESTART_S - LEASE_TTL_S) is None
    assert watched.detector.silence == SILENCE_RESTART_S
    assert watched.says(None, 1) == "was silent for 15 s"


def test_one_that_is_heard_again_begins_again():
    watched = Watched()
    watched.says(READY, 5)
    for _ in range(5):
        assert watched.says(None, SILENCE_RESTART_S - LEASE_TTL_S) is None
        assert watched.says(READY, 1) is None
        assert watched.detector.silence == 0


def test_one_that_reports_its_load_lives_however_long_its_lease_is_not_renewed():
    watched = Watched()
    watched.says(READY, 5)
    for _ in range(round(LOAD_TIMEOUT_S) + 5):
        watched.detector.heard()
        assert watched.says(None, 1) is None
    assert watched.detector.silence == 0
    assert watched.says(None, SILENCE_RESTART_S - LEASE_TTL_S + 1) == "was silent for 15 s"


def test_a_load_report_of_the_process_before_makes_none_ready():
    watched = Watched()
    watched.detector.heard()
    assert watched.says(None, LOAD_TIMEOUT_S) is None
    assert watched.says(None, 2) == "was not ready within 300 s"


@pytest.mark.parametrize("state", [None, LOADING])
def test_one_that_loads_has_the_time_to_load(state):
    watched = Watched()
    assert watched.says(state, LOAD_TIMEOUT_S) is None
    assert watched.says(state, 2) == "was not ready within 300 s"


def test_a_pause_of_the_agent_ends_nothing():
    watched = Watched()
    watched.says(READY, 5)
    for state in (None, STALLED):
        watched.now += 3600
        assert watched.says(state, 2 * LOOK_S) is None
