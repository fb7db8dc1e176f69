"""The life of a job: what a request and what the reports of nodes make of its record. Pure.

`TRANSITIONS` is the one table of states. `change` applies what a person asks for, `observe` what the nodes of the job
report, `start` and `preempt` what `job_placement` decides.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from shared.contracts.job import (
    REFUSED_EXIT_CODE,
    STOPPED_EXIT_CODE,
    Checkpoint,
    DeployState,
    Desired,
    Job,
    JobAssignment,
    JobRun,
    JobState,
    RunState,
)
from shared.errors import Conflict

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.PAUSED, JobState.CANCELLED}),
    JobState.STARTING: frozenset(
        {JobState.RUNNING, JobState.STOPPING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED}
    ),
    JobState.RUNNING: frozenset({JobState.STOPPING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.STOPPING: frozenset(
        {JobState.PAUSED, JobState.QUEUED, JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def change(job: Job, desired: Desired, now: datetime) -> Job:
    """The job after a person asked for `desired`; asking twice changes nothing.

    Raises:
        Conflict: The job has finished in another way.
    """
    if job.state in {JobState.SUCCEEDED, JobState.CANCELLED} or (
        job.state is JobState.FAILED and desired is not Desired.RUN
    ):
        if job.state is JobState.CANCELLED and desired is Desired.CANCEL:
            return job
        raise Conflict(f"job {job.id} has {job.state}; it can't be {_PARTICIPLES[desired]}")
    asked = job.model_copy(update={"desired": desired})
    match desired, job.state:
        case Desired.RUN, JobState.PAUSED | JobState.FAILED:
            return _move(asked, JobState.QUEUED, now, message="", failures=0, finished_at=None)
        case Desired.PAUSE, JobState.QUEUED:
            return _move(asked, JobState.PAUSED, now, message="")
        case Desired.CANCEL, JobState.QUEUED | JobState.PAUSED:
            return _move(asked, JobState.CANCELLED, now, message="")
        case Desired.PAUSE | Desired.CANCEL, JobState.STARTING | JobState.RUNNING:
            return _move(asked, JobState.STOPPING, now, message="")
    return asked


def start(job: Job, nodes: tuple[str, ...], now: datetime) -> Job:
    """The queued job with its nodes, the one that leads first."""
    return _move(
        job,
        JobState.STARTING,
        now,
        nodes=nodes,
        attempt=job.attempt + 1,
        message="",
        started_at=job.started_at or now,
    )


def preempt(job: Job, reason: str, now: datetime) -> Job:
    """The running job that must leave its nodes for a deployment; it is queued when its processes have ended."""
    return _move(job, JobState.STOPPING, now, message=f"preempted: {reason}", preemptions=job.preemptions + 1)


def wait(job: Job, reason: str) -> Job:
    """The queued job with the reason why it has no nodes. What happened to it before stays in front."""
    before = job.message.partition("; waits: ")[0]
    if before.startswith("waits: "):
        before = ""
    return job.model_copy(update={"message": f"{before}; waits: {reason}" if before else f"waits: {reason}"})


def observe(job: Job, runs: Iterable[JobRun], *, lost: Collection[str], now: datetime) -> Job:
    """The job after its nodes' reports.

    A job of several nodes that has lost one, or of which one has failed, stops on the others. It leaves its nodes
    when all of its processes are over: only then are all reasons known.

    Args:
        job: The record.
        runs: What nodes report of the job.
        lost: The nodes that are down and will not come back in time.
        now: In UTC.
    """
    if not job.state.on_node:
        return job
    reports = {run.node: run for run in runs if run.attempt == job.attempt and run.node in job.nodes}
    gone = [node for node in job.nodes if node in lost and node not in reports]
    seen = _with_report(job, reports.get(job.nodes[0]))
    ended = [run for run in reports.values() if run.state is RunState.ENDED]
    if len(gone) + len(ended) == len(job.nodes):
        return _over(seen, reports, gone, now)
    first = reports.get(job.nodes[0])
    if first is not None and first.state is RunState.ENDED and first.exit_code == 0:
        return _succeeded(seen, first, now)
    early = [f"{node} was lost" for node in gone]
    early += [_said(job, run) for run in ended if run.exit_code != 0]
    if early and job.state is not JobState.STOPPING:
        broken = "; ".join(early)
        return _move(seen, JobState.STOPPING, now, message=f"{broken}; the other nodes stop", broken=broken)
    running = len(reports) == len(job.nodes) and all(run.state is not RunState.STARTING for run in reports.values())
    return _move(seen, JobState.RUNNING, now) if running and job.state is JobState.STARTING else seen


def claims_deployment(job: Job) -> bool:
    """Whether the name of its deployment is taken by the job: it may still make that deployment."""
    if job.spec.deploy is None or job.state in {JobState.FAILED, JobState.CANCELLED}:
        return False
    return job.deployed is None or not job.deployed.settled


def assignment(job: Job, node: str) -> JobAssignment:
    """What one of the nodes of a job should do."""
    assert job.state.on_node
    at_once = job.desired is Desired.CANCEL or job.broken
    return JobAssignment(
        id=job.id,
        spec=job.spec,
        attempt=job.attempt,
        rank=job.nodes.index(node),
        rendezvous=job.rendezvous,
        resources=job.resources,
        checkpoint=job.checkpoint,
        stop="no" if job.state is not JobState.STOPPING else "now" if at_once else "checkpoint",
    )


def check_integrity(job: Job) -> None:
    """Assert what must hold of every record."""
    count = job.spec.node_count if job.state.on_node else 0
    assert len(set(job.nodes)) == len(job.nodes) == count, "a job has all of its nodes or none"
    assert job.state is JobState.STOPPING or not job.broken, "a broken job stops"
    assert job.state.on_node or not job.rendezvous, "its processes meet on its nodes"
    assert (job.finished_at is not None) == job.state.finished, "exactly the finished jobs have an end"
    assert job.failures <= job.retries + 1, "no job is started again too often"
    assert job.attempt > 0 or not (job.state.on_node or job.results), "a process ran only after a start"
    if job.state is JobState.PAUSED:
        assert job.desired is Desired.PAUSE, "a job is paused by a person only"
    if job.deployed is not None:
        assert job.state is JobState.SUCCEEDED, "only what a job has made is deployed"
        assert job.spec.deploy is not None, "it was asked for"
    if job.state is JobState.CANCELLED:
        assert job.desired is Desired.CANCEL, "a job is cancelled by a person only"


_PARTICIPLES = {Desired.RUN: "resumed", Desired.PAUSE: "paused", Desired.CANCEL: "cancelled"}


def _with_report(job: Job, first: JobRun | None) -> Job:
    """The job with what the first of its nodes reports."""
    if first is None:
        return job
    updates: dict[str, Any] = {}
    if first.checkpoint is not None and _newer(first.checkpoint, job.checkpoint):
        updates["checkpoint"] = first.checkpoint
    if first.rendezvous and first.rendezvous != job.rendezvous:
        updates["rendezvous"] = first.rendezvous
    if first.state is RunState.ENDED:
        updates["progress"] = first.progress
    return job.model_copy(update=updates) if updates else job


def _over(job: Job, reports: Mapping[str, JobRun], gone: list[str], now: datetime) -> Job:
    """The job after all of its processes have ended, or were lost with their nodes."""
    first = reports.get(job.nodes[0])
    if first is not None and first.exit_code == 0:
        return _succeeded(job, first, now)
    failed = [run for run in reports.values() if run.exit_code not in {0, STOPPED_EXIT_CODE}]
    refused = any(run.exit_code == REFUSED_EXIT_CODE for run in failed)
    if job.state is JobState.STOPPING and (job.desired is not Desired.RUN or not job.broken):
        return _leave(job, _why_unsaved(first, gone), now)
    if failed and (refused or not gone):
        failures = job.failures + 1
        # Of the others, those that were killed while they stopped did not fail by themselves.
        own = [_said(job, run) for run in failed if not job.broken or (run.exit_code or 0) > 0]
        message = "; ".join(dict.fromkeys([job.broken, *own] if job.broken else own))
        if failures > job.retries or refused:
            return _move(job, JobState.FAILED, now, message=message, failures=failures)
        return _move(job, JobState.QUEUED, now, message=f"attempt {job.attempt} failed: {message}", failures=failures)
    return _leave(job, _names_lost(gone), now)


def _succeeded(job: Job, first: JobRun, now: datetime) -> Job:
    deployed = DeployState.PENDING if job.spec.deploy is not None else None
    return _move(job, JobState.SUCCEEDED, now, results=first.results, message="", deployed=deployed)


def _why_unsaved(first: JobRun | None, gone: list[str]) -> str:
    """Why a job that was asked to stop may have no new checkpoint; empty: it has."""
    if gone or first is None:
        return _names_lost(gone)
    if first.exit_code == STOPPED_EXIT_CODE:
        return ""
    return first.message if (first.exit_code or 0) > 0 else "it saved no checkpoint in time"


def _names_lost(gone: list[str]) -> str:
    return "; ".join(f"{node} was lost" for node in gone)


def _said(job: Job, run: JobRun) -> str:
    """What a run says of its end; of several, with the node."""
    message = run.message or "was stopped"
    return message if len(job.nodes) == 1 else f"{run.node}: {message}"


def _leave(job: Job, why: str, now: datetime) -> Job:
    """The job without its nodes, whose processes have ended before its work was done."""
    place = f"continues from step {job.checkpoint.step}" if job.checkpoint else "begins again"
    match job.desired:
        case Desired.CANCEL:
            return _move(job, JobState.CANCELLED, now, message="")
        case Desired.PAUSE:
            message = f"{why}; {place}" if why else place
            return _stopped(job, JobState.PAUSED, message, now)
        case Desired.RUN:
            before = "" if job.broken else job.message
            reasons = [part for part in (before, why, place) if part]
            return _stopped(job, JobState.QUEUED, "; ".join(reasons), now)


def _stopped(job: Job, state: JobState, message: str, now: datetime) -> Job:
    if job.state is not JobState.STOPPING and state is JobState.PAUSED:
        job = _move(job, JobState.STOPPING, now)
    return _move(job, state, now, message=message)


def _move(job: Job, state: JobState, now: datetime, **updates: Any) -> Job:
    if state is not job.state and state not in TRANSITIONS[job.state]:
        raise AssertionError(f"job {job.id} can't go from {job.state} to {state}")
    finished = {"finished_at": now} if state.finished else {}
    left = {} if state.on_node else {"nodes": (), "rendezvous": "", "broken": ""}
    return job.model_copy(update={"state": state, **finished, **left, **updates})


def _newer(one: Checkpoint, other: Checkpoint | None) -> bool:
    return other is None or one.step > other.step
