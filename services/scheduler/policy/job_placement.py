"""Which nodes a job runs on, and which jobs make room for replicas. Pure.

Serving comes first: replicas are placed as if the youngest jobs were not there, as far as that lets one more of them
run. A job keeps its nodes while it fits there; one that waits gets the nodes that `gang` chooses. Jobs with a higher
priority choose first, then older ones. A job that does not fit lets those behind it go first. A node that lacks
what a kind of job needs gets none of that kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from services.scheduler.policy.fit import FreeCapacity, readable_bytes
from services.scheduler.policy.gang import choose, need_of, why_none
from services.scheduler.policy.job_rules import assignment, preempt, start, wait
from services.scheduler.policy.placement import Placement
from shared.contracts.job import Job, JobKind, JobState
from shared.contracts.resources import Resources
from shared.contracts.scheduler import NodeAssignment, NodeStatus

Place = Callable[[Mapping[str, Sequence[Resources]]], Placement]
"""Places replicas beside what is held on each node."""


def place_beside_jobs(jobs: Iterable[Job], place: Place) -> Placement:
    """Place replicas, and leave as many of the oldest jobs where they are as that allows."""
    on_nodes = sorted((job for job in jobs if job.state.on_node), key=_order)
    beside = place(_held(on_nodes))
    if not on_nodes or not beside.unplaced:
        return beside
    alone = place({})
    for count in range(len(on_nodes), 0, -1):
        placement = place(_held(on_nodes[:count]))
        if _missing(placement) == _missing(alone):
            return placement
    return alone


def place_jobs(
    jobs: Iterable[Job], nodes: Mapping[str, NodeStatus], placement: Placement, *, now: datetime
) -> list[Job]:
    """The jobs after this pass: those that start, that are preempted, and that wait with another reason.

    Args:
        jobs: All of them.
        nodes: The nodes that are up.
        placement: Of the replicas.
        now: In UTC.
    """
    free = {key: FreeCapacity.of(node) for key, node in nodes.items()}
    for key, record in placement.assignments.items():
        for replica in record.replicas:
            if key in free:
                free[key].reserve(replica)
    after: list[Job] = []
    in_order = sorted(jobs, key=_order)
    for job in (job for job in in_order if job.state.on_node):
        up = [free[node] for node in job.nodes if node in free]  # a silent one is left to `observe`
        full = [one.node for one in up if not one.fits(need_of(job))]
        if full and job.state is not JobState.STOPPING:
            missing = readable_bytes(job.resources.memory, up=True)
            reason = f"a deployment needs the room on {full[0]}, which has no {missing} left"
            after.append(preempt(job, reason, now))
        else:
            after.append(job)
        for capacity in up:
            capacity.hold(job.resources)
    for job in (job for job in in_order if job.state is JobState.QUEUED):
        need, count = need_of(job), job.spec.node_count
        able = {key: capacity for key, capacity in free.items() if job.spec.kind not in nodes[key].lacking}
        chosen = choose(need, count, able, nodes)
        if not chosen:
            unable = len(able) < min(count, len(free))
            reason = _why_unable(job.spec.kind, count, nodes) if unable else why_none(need, count, able, nodes)
            after.append(wait(job, reason))
            continue
        for capacity in chosen:
            capacity.hold(job.resources)
        after.append(start(job, tuple(capacity.node for capacity in chosen), now))
    return after


def with_jobs(assignments: Mapping[str, NodeAssignment], jobs: Iterable[Job]) -> dict[str, NodeAssignment]:
    """The assignments of replicas, with the jobs of each node."""
    by_node: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.id):
        for node in job.nodes:
            by_node.setdefault(node, []).append(job)
    return {
        node: assigned.model_copy(update={"jobs": tuple(assignment(job, node) for job in by_node.get(node, []))})
        for node, assigned in assignments.items()
    }


def _order(job: Job) -> tuple[int, datetime, str]:
    return -job.priority, job.created_at, job.id


def _held(jobs: Iterable[Job]) -> dict[str, list[Resources]]:
    held: dict[str, list[Resources]] = {}
    for job in jobs:
        for node in job.nodes:
            held.setdefault(node, []).append(job.resources)
    return held


def _missing(placement: Placement) -> int:
    return sum(len(reasons) for reasons in placement.unplaced.values())


def _why_unable(kind: JobKind, count: int, nodes: Mapping[str, NodeStatus]) -> str:
    """`no node can run …; node-a: this Python lacks torch`; nodes that lack the same are named together."""
    by_reason: dict[str, list[str]] = {}
    for key in sorted(nodes):
        if (lack := nodes[key].lacking.get(kind)) is not None:
            by_reason.setdefault(lack, []).append(key)
    each = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    who = "no node" if count == 1 else f"it needs {count} nodes, and too few"
    return f"{who} can run a job of kind {kind}; {each}"
