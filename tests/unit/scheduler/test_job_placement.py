"""Where jobs run, and that serving comes first."""

from datetime import UTC, datetime, timedelta
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.job_placement import place_beside_jobs, place_jobs, with_jobs
from services.scheduler.policy.placement import place
from shared.contracts.job import Desired, Job, JobSpec, JobState
from shared.contracts.scheduler import Deployment, NodeAssignment, NodeStatus
from tests.support.factories.jobs import CREATED, job_of
from tests.support.factories.scheduling import GIB, deployment, node, replica, runs

NOW = datetime(2026, 11, 29, 1, tzinfo=UTC)


def on_node(job_id: str, node_id: str = "a", *, age: int = 0, memory: int = GIB, **fields) -> Job:
    created = CREATED - timedelta(seconds=age)
    return job_of(
        job_id, memory=memory, state=JobState.RUNNING, nodes=(node_id,), attempt=1, created_at=created, **fields
    )


def decide(
    jobs: list[Job],
    nodes: list[NodeStatus],
    deployments: list[Deployment] = (),
    assigned: list[NodeAssignment] = (),
) -> tuple[dict[str, Job], dict[str, NodeAssignment]]:
    """The jobs and the assignments after one pass."""
    ready = {one.id for record in assigned for one in record.replicas}
    place_replicas = partial(place, deployments, nodes, assigned, ready=ready, token="t")
    placement = place_beside_jobs(jobs, lambda held: place_replicas(jobs=held))
    after = place_jobs(jobs, {one.id: one for one in nodes}, placement, now=NOW)
    return {job.id: job for job in after}, with_jobs(placement.assignments, after)


def test_a_queued_job_takes_the_node_with_the_most_free_memory():
    after, assigned = decide([job_of("j")], [node("a", memory=2 * GIB), node("b", memory=3 * GIB)])
    assert (after["j"].state, after["j"].nodes, after["j"].attempt) == (JobState.STARTING, ("b",), 1)
    assert [job.id for job in assigned["b"].jobs] == ["j"]


def test_a_job_that_fits_nowhere_waits_and_says_why():
    after, _ = decide([job_of("j", memory=5 * GIB)], [node("a")])
    assert after["j"].state is JobState.QUEUED
    assert after["j"].message.startswith("waits: no node has 5.0 GiB free: a has 4.0 GiB")


def test_a_job_goes_to_a_node_that_has_what_its_kind_needs():
    lacks = node("a", memory=8 * GIB).model_copy(update={"lacking": {"train": "no torch", "search": "no torch"}})
    training = job_of("j", spec=JobSpec(kind="train"))
    after, _ = decide([training, job_of("k")], [lacks, node("b")])
    assert (after["j"].nodes, after["k"].nodes) == (("b",), ("a",))


def test_a_job_that_no_node_can_run_waits_and_says_what_is_missing():
    nodes = [
        node(key).model_copy(update={"lacking": {"train": f"{key[0]} lacks torch"}}) for key in ("a1", "a2", "b")
    ]
    after, _ = decide([job_of("j", spec=JobSpec(kind="train"))], nodes)
    assert after["j"].state is JobState.QUEUED
    assert after["j"].message == (
        "waits: no node can run a job of kind train; a1, a2: a lacks torch; b: b lacks torch"
    )


def test_of_the_nodes_that_can_run_a_job_those_without_room_are_named():
    lacks = node("a", memory=8 * GIB).model_copy(update={"lacking": {"run": "nothing"}})
    after, _ = decide([job_of("j", memory=5 * GIB)], [lacks, node("b")])
    assert after["j"].message.startswith("waits: no node has 5.0 GiB free: b has 4.0 GiB")


def test_higher_priority_comes_first_then_the_older_one():
    jobs = [
        job_of("young", memory=3 * GIB),
        job_of("old", memory=3 * GIB, created_at=CREATED - timedelta(hours=1)),
        job_of("urgent", memory=3 * GIB, priority=5, created_at=CREATED + timedelta(hours=1)),
    ]
    after, _ = decide(jobs, [node("a"), node("b")])
    assert {job.id for job in after.values() if job.state is JobState.STARTING} == {"urgent", "old"}


def test_a_deployment_that_needs_the_room_preempts_the_youngest_job_only():
    jobs = [on_node("old", age=10), on_node("young")]
    after, assigned = decide(jobs, [node("a", memory=3 * GIB)], [deployment(memory=2 * GIB)])
    assert [replica.deployment for replica in assigned["a"].replicas] == ["chat"]
    assert (after["old"].state, after["young"].state) == (JobState.RUNNING, JobState.STOPPING)
    assert "preempted: a deployment needs the room on a" in after["young"].message
    assert [job.stop for job in assigned["a"].jobs] == ["no", "checkpoint"]


def test_a_deployment_goes_where_no_job_must_leave():
    jobs = [on_node("j", memory=3 * GIB)]
    after, assigned = decide(jobs, [node("a"), node("b")], [deployment(memory=2 * GIB)])
    assert after["j"].state is JobState.RUNNING
    assert len(assigned["b"].replicas) == 1


def test_no_job_leaves_for_a_deployment_that_would_not_fit_even_then():
    after, assigned = decide([on_node("j")], [node("a")], [deployment(memory=9 * GIB)])
    assert after["j"].state is JobState.RUNNING
    assert assigned["a"].replicas == ()


def test_a_replica_is_never_moved_for_a_job():
    serving = deployment(memory=3 * GIB)
    after, assigned = decide(
        [job_of("j", memory=2 * GIB)], [node("a")], [serving], [runs("a", replica("r", serving))]
    )
    assert [one.id for one in assigned["a"].replicas] == ["r"]
    assert after["j"].state is JobState.QUEUED


def test_a_job_on_a_silent_node_is_left_to_its_report():
    after, assigned = decide([on_node("j", "gone")], [node("a")])
    assert after["j"].nodes == ("gone",)
    assert "gone" not in assigned


def test_a_cancelled_job_is_stopped_at_once():
    job = on_node("j").model_copy(update={"state": JobState.STOPPING, "desired": Desired.CANCEL})
    _, assigned = decide([job], [node("a")])
    assert assigned["a"].jobs[0].stop == "now"


@given(
    memories=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    needs=st.lists(st.integers(1, 4), max_size=3),
    nodes=st.integers(1, 3),
)
def test_grants_never_exceed_a_node_once_stopping_jobs_are_gone(memories, needs, nodes):
    jobs = [on_node(f"j{i}", "abc"[i % nodes], age=i, memory=size * GIB // 2) for i, size in enumerate(memories)]
    deployments = [deployment(f"d{i}", memory=size * GIB) for i, size in enumerate(needs)]
    up = [node(name) for name in "abc"[:nodes]]
    after, assigned = decide(jobs, up, deployments)
    alone = place(deployments, up, [], ready=set(), token="t")
    placed = sum(len(record.replicas) for record in assigned.values())
    assert placed == sum(len(record.replicas) for record in alone.assignments.values()), "serving comes first"
    for name in "abc"[:nodes]:
        staying = [job for job in after.values() if name in job.nodes and job.state is not JobState.STOPPING]
        held = sum(job.resources.memory for job in staying)
        granted = sum(one.resources.memory for one in assigned[name].replicas)
        before = sum(job.resources.memory for job in jobs if name in job.nodes)
        assert held + granted <= max(4 * GIB, before)
