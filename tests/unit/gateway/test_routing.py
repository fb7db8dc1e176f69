"""The routing table: a pure choice from what is known."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.routing.table import SEQUENCE_TOKENS, RoutingTable
from shared.contracts.load import EngineCounters, EngineLoad, LoadReport
from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deployment, ReplicaState, ReplicaStatus
from shared.contracts.serving import ReplicaOptions
from shared.deadlines import LEASE_TTL_S, LOAD_FRESH_S
from shared.errors import NotFound, Unavailable

NOW = 1000.0


def deployment(name: str = "m", *, version: int = 1, replicas: int = 1) -> Deployment:
    return Deployment(
        name=name,
        model="m",
        version=version,
        digest="cd" * 32,
        replicas=replicas,
        options=ReplicaOptions(max_len=128),
        resources=Resources(memory=1, threads=1),
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


def status(id: str, *, state: ReplicaState = ReplicaState.READY, message: str = "", **changes: int) -> ReplicaStatus:  # noqa: A002
    known = {"version": 1, "restarts": 0, **changes}
    options = ReplicaOptions(slots=4, max_len=128)
    return ReplicaStatus(
        id=id, node="node-a", deployment="m", model="m", state=state, message=message, options=options, **known
    )


def report(replica_id: str, *, steps: int = 0, **changes: float) -> LoadReport:
    known = {"running": 0, "waiting": 0, "queued_tokens": 0, "free_slots": 4, **changes}
    load = EngineLoad(slots=4, max_len=128, counters=EngineCounters(steps=steps), **known)
    return LoadReport(replica_id=replica_id, deployment="m", model="m", version=1, load=load)


def table(*replicas: ReplicaStatus, reported: bool = True) -> RoutingTable:
    made = RoutingTable()
    made.set_deployments({"m": deployment()})
    made.set_replicas({replica.id: replica for replica in replicas})
    if reported:
        for replica in replicas:
            made.report(report(replica.id), NOW)
    return made


def chosen(made: RoutingTable, now: float = NOW) -> list[str]:
    return [candidate.replica_id for candidate in made.choose("m", now)]


def test_a_replica_whose_engine_has_stalled_is_not_chosen_until_it_goes_on() -> None:
    made = table(status("a"), status("b"))
    made.report(report("a", stalled_s=7.0), NOW)
    assert chosen(made) == ["b"]
    made.report(report("b", stalled_s=9.0), NOW)
    with pytest.raises(Unavailable, match="a on node-a has stalled: no step for 7 s"):
        chosen(made)
    made.report(report("a"), NOW)
    assert chosen(made) == ["a"]
    made.set_replicas({"a": status("a", state=ReplicaState.STALLED, message="no step for 6 s")})
    with pytest.raises(Unavailable, match="a on node-a is stalled: no step for 6 s"):
        chosen(made)


def test_a_replica_whose_lease_has_just_expired_is_said_to_be_silent_and_not_to_have_no_place() -> None:
    made = table(status("a"))
    made.set_replicas({})
    with pytest.raises(Unavailable, match="has no replica that is ready: a has been silent for 6 s"):
        chosen(made, NOW + 6.0)


def test_an_unknown_model_names_those_that_exist() -> None:
    with pytest.raises(NotFound, match=r"'x' does not exist; models: m") as error:
        table().choose("x", NOW)
    assert error.value.param == "model"


def test_the_replica_with_the_fewest_outstanding_tokens_comes_first() -> None:
    made = table(status("a"), status("b"), status("c"))
    made.report(report("a", queued_tokens=300), NOW)
    made.report(report("b", queued_tokens=100), NOW)
    made.report(report("c", queued_tokens=200), NOW)
    assert chosen(made) == ["b", "c", "a"]


def test_running_sequences_are_work_too() -> None:
    made = table(status("a"), status("b"))
    made.report(report("a", running=3, free_slots=1), NOW)
    assert chosen(made) == ["b", "a"]


def test_a_replica_without_a_free_slot_comes_last() -> None:
    made = table(status("a"), status("b"))
    made.report(report("a", running=4, free_slots=0), NOW)
    made.report(report("b", queued_tokens=100_000), NOW)
    assert chosen(made) == ["b", "a"]


def test_what_was_sent_counts_until_a_report_includes_it() -> None:
    made = table(status("a"), status("b"))
    made.sent("a", "r1", 500)
    assert chosen(made) == ["b", "a"]
    made.report(report("a"), NOW)
    assert chosen(made) == ["b", "a"], "the report may be older than the request: the replica has not answered yet"
    made.accepted("a", "r1")
    assert chosen(made) == ["b", "a"]
    made.report(report("a"), NOW)
    assert chosen(made) == ["a", "b"], "now the report speaks for itself"


def test_a_rejected_request_counts_no_longer() -> None:
    made = table(status("a"), status("b"))
    made.sent("a", "r1", 500)
    made.finished("a", "r1")
    assert chosen(made) == ["a", "b"]


@pytest.mark.parametrize(
    ("replica", "why"),
    [
        (status("a", state=ReplicaState.STARTING), "a on node-a is starting"),
        (status("a", state=ReplicaState.LOADING, message="3 of 4 files"), "is loading: 3 of 4 files"),
        (status("a", state=ReplicaState.DRAINING), "is draining"),
        (status("a", state=ReplicaState.FAILED, message="out of memory"), "failed: out of memory"),
    ],
)
def test_replicas_that_are_not_ready_are_left_out_and_the_message_says_why(replica: ReplicaStatus, why: str) -> None:
    with pytest.raises(Unavailable, match=why) as error:
        table(replica).choose("m", NOW)
    assert error.value.retry_after


def test_silent_draining_and_unreported_replicas_are_left_out() -> None:
    made = table(status("a"))
    with pytest.raises(Unavailable, match="silent"):
        made.choose("m", NOW + LEASE_TTL_S + 0.1)
    made.report(report("a", draining=True), NOW)
    with pytest.raises(Unavailable, match="draining"):
        made.choose("m", NOW)
    with pytest.raises(Unavailable, match="has not reported its load"):
        table(status("a"), reported=False).choose("m", NOW)


def test_a_deployment_without_replicas_says_why() -> None:
    made = table()
    with pytest.raises(Unavailable, match="no replica is placed"):
        made.choose("m", NOW)
    made.set_deployments({"m": deployment(replicas=0)})
    with pytest.raises(Unavailable, match="scaled to 0"):
        made.choose("m", NOW)


def test_retry_after_is_longer_when_nothing_is_starting() -> None:
    failed, starting = status("a", state=ReplicaState.FAILED), status("b", state=ReplicaState.STARTING)
    with pytest.raises(Unavailable) as only_failed:
        table(failed).choose("m", NOW)
    with pytest.raises(Unavailable) as also_starting:
        table(failed, starting).choose("m", NOW)
    assert only_failed.value.retry_after is not None
    assert also_starting.value.retry_after is not None
    assert only_failed.value.retry_after > also_starting.value.retry_after


def test_the_deployments_own_version_is_preferred_and_a_resume_stays_with_its_version() -> None:
    made = table(status("a"), status("b", version=2))
    made.set_deployments({"m": deployment(version=2)})
    assert chosen(made) == ["b", "a"]
    assert [candidate.replica_id for candidate in made.choose("m", NOW, of=("m", 1))] == ["a"]
    with pytest.raises(Unavailable, match="no replica of m:3 is left"):
        made.choose("m", NOW, of=("m", 3))


def test_replicas_gone_for_long_are_forgotten() -> None:
    made = table(status("a"))
    made.set_replicas({})
    made.forget_silent(NOW + 61, after=60)
    made.set_replicas({"a": status("a")})
    with pytest.raises(Unavailable, match="not reported"):
        made.choose("m", NOW)


STATES = st.sampled_from(list(ReplicaState))
REPLICAS = st.lists(
    st.tuples(STATES, st.integers(0, 10_000), st.integers(0, 8), st.floats(0, 10), st.booleans()), max_size=8
)


@given(REPLICAS)
def test_whatever_is_known_the_choice_is_ready_replicas_in_order_of_work(
    replicas: list[tuple[ReplicaState, int, int, float, bool]],
) -> None:
    made = RoutingTable()
    made.set_deployments({"m": deployment()})
    made.set_replicas({f"r{n}": status(f"r{n}", state=state) for n, (state, *_) in enumerate(replicas)})
    for n, (_, queued, running, age, draining) in enumerate(replicas):
        made.report(
            report(f"r{n}", queued_tokens=queued, running=running, free_slots=8 - running, draining=draining),
            NOW - age,
        )
    usable = {
        f"r{n}"
        for n, (state, _, _, age, draining) in enumerate(replicas)
        if state is ReplicaState.READY and age <= LEASE_TTL_S and not draining
    }
    if not usable:
        with pytest.raises(Unavailable):
            made.choose("m", NOW)
        return
    candidates = made.choose("m", NOW)
    assert {candidate.replica_id for candidate in candidates} == usable
    places = {
        f"r{n}": (age > LOAD_FRESH_S, running >= 8, queued + SEQUENCE_TOKENS * running)
        for n, (_, queued, running, age, _) in enumerate(replicas)
    }
    chosen = [places[candidate.replica_id] for candidate in candidates]
    assert chosen == sorted(chosen)


@given(st.integers(1, 4), st.integers(1, 40))
def test_equal_requests_are_spread_evenly(replicas: int, requests: int) -> None:
    made = table(*(status(f"r{n}") for n in range(replicas)))
    counts = dict.fromkeys((f"r{n}" for n in range(replicas)), 0)
    for n in range(requests):
        target = made.choose("m", NOW)[0].replica_id
        made.sent(target, f"q{n}", 10)
        counts[target] += 1
    assert max(counts.values()) - min(counts.values()) <= 1
