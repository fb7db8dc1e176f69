"""When a request is lost with its replica: rules on what happened and when."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.dispatch.loss import FRAME_AFTER_OUTAGE_S, IDLE_REPORTS, OUTAGE_S, LossDetector, WatchedRequest
from shared.contracts.scheduler import ReplicaState, ReplicaStatus
from shared.deadlines import LEASE_TTL_S, LOAD_REPORT_S
from tests.unit.gateway.test_routing import report, status

NOW = 1000.0
TICK_S = 0.25
"""How often the dispatcher checks the connection."""


def detector(**replicas: ReplicaStatus) -> LossDetector:
    """Replicas that are up and have just reported; "a" if none are named."""
    made = LossDetector()
    known = replicas or {"a": status("a")}
    made.set_replicas(known)
    for replica_id in known:
        made.report(report(replica_id, running=1), NOW)
    return made


def accepted(made: LossDetector, replica_id: str = "a", now: float = NOW) -> WatchedRequest:
    request = made.watch(replica_id)
    made.accepted(request, now)
    return request


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (status("a", state=ReplicaState.FAILED, message="killed"), "it is failed: killed"),
        (status("a", state=ReplicaState.LOADING), "it is loading"),
        (status("a", restarts=1), "it was restarted"),
    ],
)
def test_a_request_is_lost_when_its_replica_fails_or_restarts(change: ReplicaStatus, why: str) -> None:
    made = detector()
    request = accepted(made)
    assert made.lost(request, NOW) is None
    made.set_replicas({"a": change})
    assert made.lost(request, NOW) == why


def test_a_silent_replica_and_one_without_a_lease_are_lost() -> None:
    made = detector()
    request = accepted(made)
    assert "silent" in (made.lost(request, NOW + LEASE_TTL_S + 0.1) or "")
    made.set_replicas({})
    assert made.lost(request, NOW + 1) is None, "it reports: only its lease could not be renewed"
    assert "lease" in (made.lost(request, NOW + 2) or "")


def test_a_draining_replica_finishes_what_it_has() -> None:
    made = detector()
    request = accepted(made)
    made.set_replicas({"a": status("a", state=ReplicaState.DRAINING)})
    made.report(report("a", running=1, draining=True), NOW)
    assert made.lost(request, NOW) is None


def test_a_replica_whose_engine_has_stalled_is_left_by_its_report_or_its_record() -> None:
    made = detector()
    request = accepted(made)
    made.report(report("a", running=1, stalled_s=6.0), NOW)
    assert made.lost(request, NOW) == "its engine has stalled: no step for 6 s"
    made.report(report("a", running=1), NOW)
    assert made.lost(request, NOW) is None, "it has gone on before the request was given up"
    made.set_replicas({"a": status("a", state=ReplicaState.STALLED, message="no step for 6 s")})
    assert made.lost(request, NOW) == "it is stalled: no step for 6 s"


def test_a_replica_that_came_back_ready_in_between_is_still_another_one() -> None:
    made = detector()
    request = accepted(made)
    made.set_replicas({"a": status("a", state=ReplicaState.FAILED)})
    made.set_replicas({"a": status("a")})
    made.report(report("a"), NOW)
    assert made.lost(request, NOW) == "it was restarted"
    assert made.lost(accepted(made), NOW) is None


def test_step_counts_that_go_back_betray_a_restart() -> None:
    made = detector()
    made.report(report("a", steps=50, running=1), NOW)
    request = accepted(made)
    made.report(report("a", steps=3), NOW)
    assert made.lost(request, NOW) == "it was restarted"


def test_idle_reports_are_counted_from_the_last_accepted_request() -> None:
    made = detector()
    first = accepted(made)
    made.report(report("a"), NOW)
    second = accepted(made)
    made.report(report("a"), NOW)
    assert made.lost(first, NOW) is None
    made.report(report("a", running=1), NOW)
    made.report(report("a"), NOW)
    assert made.lost(second, NOW) is None
    made.report(report("a"), NOW)
    for request in (first, second):
        assert "nothing to do" in (made.lost(request, NOW) or "")


def test_a_request_without_frames_is_not_judged_by_idle_reports() -> None:
    made = detector()
    request = made.watch("a")
    for _ in range(IDLE_REPORTS + 1):
        made.report(report("a"), NOW)
    assert made.lost(request, NOW) is None


def test_a_missing_frame_is_noticed_from_the_next() -> None:
    request = accepted(detector())
    assert request.frame(0, NOW) is None
    assert request.frame(2, NOW) == "frame 1 is missing (got 2)"


def test_after_an_outage_a_request_without_a_frame_is_lost() -> None:
    made = detector()
    waiting, streaming = accepted(made), accepted(made)
    made.disconnected(NOW + 1)
    made.connected(NOW + 3)
    later = accepted(made, now=NOW + 3)
    made.report(report("a", running=3), NOW + 3)
    streaming.frame(0, NOW + 4)
    before, after = NOW + 3 + FRAME_AFTER_OUTAGE_S - 0.1, NOW + 3 + FRAME_AFTER_OUTAGE_S
    assert [made.lost(each, before) for each in (waiting, streaming, later)] == [None, None, None]
    assert "no frame came" in (made.lost(waiting, after) or "")
    assert [made.lost(each, after) for each in (streaming, later)] == [None, None]


def test_a_very_long_outage_ends_a_request() -> None:
    made = detector()
    request = accepted(made)
    for seconds in (0, OUTAGE_S):
        made.disconnected(NOW + seconds)
        assert made.lost(request, NOW + seconds) is None
    assert "bus connection was down" in (made.lost(request, NOW + OUTAGE_S + 0.1) or "")


def test_replicas_gone_for_long_are_forgotten() -> None:
    made = detector()
    made.set_replicas({"a": status("a", restarts=1)})
    request = accepted(made)
    made.forget_silent(NOW + 61, after=60)
    assert "silent" in (made.lost(request, NOW + 61) or ""), "it still has a lease"
    made.set_replicas({})
    made.forget_silent(NOW + 61, after=60)
    made.set_replicas({"a": status("a")})
    made.report(report("a"), NOW + 61)
    assert made.lost(accepted(made), NOW + 61) is None


# Properties

DELAYS = st.lists(st.floats(0, LEASE_TTL_S - 0.01), max_size=12)
"""Seconds between the events of a replica that is alive."""


@given(DELAYS, st.integers(1, 4))
def test_a_replica_that_reports_in_time_is_never_lost(delays: list[float], running: int) -> None:
    made, now = detector(), NOW
    request = accepted(made)
    for steps, delay in enumerate(delays):
        now += delay
        assert made.lost(request, now) is None
        made.set_replicas({"a": status("a")})
        made.report(report("a", running=running, steps=steps), now)
        assert made.lost(request, now) is None


@given(DELAYS, st.floats(0.001, 1000), st.booleans())
def test_a_silent_replica_is_lost_within_the_leases_time(delays: list[float], silence: float, lease: bool) -> None:
    made, now = detector(), NOW
    request = accepted(made)
    for steps, delay in enumerate(delays):
        now += delay
        made.report(report("a", running=1, steps=steps), now)
    made.set_replicas({"a": status("a")} if lease else {})
    made.connected(now + silence)
    verdict = made.lost(request, now + silence)
    if silence > LEASE_TTL_S:
        assert verdict is not None
    elif lease:
        assert verdict is None


@given(
    st.floats(0, LEASE_TTL_S - 2 * TICK_S),
    st.floats(0, OUTAGE_S),
    st.floats(0, FRAME_AFTER_OUTAGE_S - 0.01),
    st.floats(0, LEASE_TTL_S - 0.01),
    st.floats(0, 1),
)
def test_an_outage_of_the_gateways_own_bus_never_loses_a_replica(
    quiet: float, outage: float, frame: float, first_report: float, moment: float
) -> None:
    made = detector()
    streaming, single = accepted(made), made.watch("a")
    down = NOW + quiet
    assert made.lost(streaming, down) is None
    made.disconnected(down)
    for request in (streaming, single):
        assert made.lost(request, down + moment * outage) is None
    made.forget_silent(down + outage, after=60)
    back = down + outage
    made.connected(back)
    events = sorted([(back + frame, "frame"), (back + first_report, "report"), (back + moment * LEASE_TTL_S, "look")])
    for now, event in events:
        if event == "frame":
            streaming.frame(0, now)
        if event == "report":
            made.report(report("a", running=1), now)
        for request in (streaming, single):
            assert made.lost(request, now) is None


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("lease"), st.sampled_from([*ReplicaState, None]), st.integers(0, 1)),
        st.tuples(st.sampled_from(["frame", "accepted", "connected", "disconnected"]), st.none(), st.none()),
    ),
    max_size=16,
)


def play(
    made: LossDetector, request: WatchedRequest, event: tuple, leases: dict[str, ReplicaStatus], now: float
) -> None:
    """One event of the replica of `request`."""
    kind, first, second = event
    replica_id = request.replica_id
    if kind == "report":
        made.report(report(replica_id, running=first, steps=second), now)
    elif kind == "lease":
        leases.pop(replica_id, None)
        if first is not None:
            leases[replica_id] = status(replica_id, state=first, restarts=second)
        made.set_replicas(leases)
    elif kind == "frame":
        request.frame(request.next_seq, now)
    elif kind == "accepted":
        made.accepted(request, now)
    elif kind == "connected":
        made.connected(now)
    else:
        made.disconnected(now)


@given(
    EVENTS, st.lists(st.floats(0, 3), min_size=16, max_size=16), st.lists(st.floats(0, 20), min_size=2, max_size=5)
)
def test_without_a_further_event_what_is_lost_stays_lost(
    events: list[tuple], delays: list[float], later: list[float]
) -> None:
    made, now, leases = detector(), NOW, {"a": status("a")}
    request = accepted(made)
    for event, delay in zip(events, delays, strict=False):
        now += delay
        play(made, request, event, leases, now)
    verdicts = [made.lost(request, now + delay) is not None for delay in sorted(later)]
    assert verdicts == sorted(verdicts)


@given(EVENTS, EVENTS, st.randoms(use_true_random=False))
def test_events_of_another_replica_change_nothing(own: list[tuple], other: list[tuple], random) -> None:
    own, other = ([event for event in each if not event[0].endswith("connected")] for each in (own, other))

    def verdicts(order: list[bool]) -> list[str | None]:
        """Of "a", after each of its events; True in `order` is one of them, and "b" has its events in between."""
        made, leases = detector(a=status("a"), b=status("b")), {"a": status("a"), "b": status("b")}
        requests, left = {True: accepted(made, "a"), False: accepted(made, "b")}, {True: [*own], False: [*other]}
        found = []
        for is_own in order:
            play(made, requests[is_own], left[is_own].pop(0), leases, NOW + len(own) - len(left[True]))
            if is_own:
                found.append(made.lost(requests[True], NOW + len(found)))
        return found

    order = [True] * len(own) + [False] * len(other)
    random.shuffle(order)
    assert verdicts(order) == verdicts([True] * len(own))


@given(st.sampled_from([*ReplicaState, None]), st.integers(0, 2), st.integers(0, 1), st.floats(0, 20))
def test_the_order_of_a_lease_change_and_a_report_at_one_moment_does_not_matter(
    state: ReplicaState | None, running: int, steps: int, delay: float
) -> None:
    leases: Mapping[str, ReplicaStatus] = {} if state is None else {"a": status("a", state=state)}
    first, second = detector(), detector()
    requests = accepted(first), accepted(second)
    now = NOW + LOAD_REPORT_S
    first.set_replicas(leases)
    first.report(report("a", running=running, steps=steps), now)
    second.report(report("a", running=running, steps=steps), now)
    second.set_replicas(leases)
    assert first.lost(requests[0], now + delay) == second.lost(requests[1], now + delay)
