"""The life of a job: what a request and what a node's report make of its record. Pure.

`TRANSITIONS` is the one table of states. `change` applies what a person asks for, `observe` what the node of the job
reports, `start` and `preempt` what `job_placement` decides.
"""

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


def start(job: Job, node: str, now: datetime) -> Job:
    """The queued job with a place on a node."""
    return _move(
        job,
        JobState.STARTING,
        now,
        node=node,
        attempt=job.attempt + 1,
        message="",
        started_at=job.started_at or now,
    )


def preempt(job: Job, reason: str, now: datetime) -> Job:
    """The running job that must leave its node for a deployment; it is queued again when its process has ended."""
    return _move(job, JobState.STOPPING, now, message=f"preempted: {reason}", preemptions=job.preemptions + 1)


def wait(job: Job, reason: str) -> Job:
    """The queued job with the reason why it has no node. What happened to it before stays in front."""
    before = job.message.partition("; waits: ")[0]
    if before.startswith("waits: "):
        before = ""
    return job.model_copy(update={"message": f"{before}; waits: {reason}" if before else f"waits: {reason}"})


def observe(job: Job, run: JobRun | None, *, node_up: bool, now: datetime) -> Job:
    """The job after its node's report.

    Args:
        job: The record.
        run: What a node reports of the job; None: nothing.
        node_up: Whether the job's node is up, or may still come back.
        now: In UTC.
    """
    if not job.state.on_node:
        return job
    if run is None or (run.attempt, run.node) != (job.attempt, job.node):
        return job if node_up else _leave(job, f"{job.node} was lost", now)
    seen = job
    if run.checkpoint is not None and _newer(run.checkpoint, job.checkpoint):
        seen = job.model_copy(update={"checkpoint": run.checkpoint})
    if run.state is RunState.RUNNING and job.state is JobState.STARTING:
        return _move(seen, JobState.RUNNING, now)
    return _ended(seen, run, now) if run.state is RunState.ENDED else seen


def claims_deployment(job: Job) -> bool:
    """Whether the name of its deployment is taken by the job: it may still make that deployment."""
    if job.spec.deploy is None or job.state in {JobState.FAILED, JobState.CANCELLED}:
        return False
    return job.deployed is None or not job.deployed.settled


def assignment(job: Job) -> JobAssignment:
    """What the node of a job with a node should do."""
    assert job.state.on_node
    stop = "no" if job.state is not JobState.STOPPING else "now" if job.desired is Desired.CANCEL else "checkpoint"
    return JobAssignment(
        id=job.id,
        spec=job.spec,
        attempt=job.attempt,
        resources=job.resources,
        checkpoint=job.checkpoint,
        stop=stop,
    )


def check_integrity(job: Job) -> None:
    """Assert what must hold of every record."""
    assert (job.node is not None) == job.state.on_node, "exactly the jobs on a node have one"
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


def _ended(job: Job, run: JobRun, now: datetime) -> Job:
    """The job after its process has ended."""
    job = job.model_copy(update={"progress": run.progress})
    if run.exit_code == 0:
        deployed = DeployState.PENDING if job.spec.deploy is not None else None
        return _move(job, JobState.SUCCEEDED, now, results=run.results, message="", node=None, deployed=deployed)
    if job.state is JobState.STOPPING or run.exit_code == STOPPED_EXIT_CODE:
        if run.exit_code == STOPPED_EXIT_CODE:
            return _leave(job, "", now)
        return _leave(job, run.message if (run.exit_code or 0) > 0 else "it saved no checkpoint in time", now)
    failures = job.failures + 1
    if failures > job.retries or run.exit_code == REFUSED_EXIT_CODE:
        return _move(job, JobState.FAILED, now, message=run.message, failures=failures, node=None)
    message = f"attempt {job.attempt} failed: {run.message}"
    return _move(job, JobState.QUEUED, now, message=message, failures=failures, node=None)


def _leave(job: Job, why: str, now: datetime) -> Job:
    """The job without its node, whose process has ended before its work was done."""
    place = f"continues from step {job.checkpoint.step}" if job.checkpoint else "begins again"
    match job.desired:
        case Desired.CANCEL:
            return _move(job, JobState.CANCELLED, now, message="", node=None)
        case Desired.PAUSE:
            message = f"{why}; {place}" if why else place
            return _stopped(job, JobState.PAUSED, message, now)
        case Desired.RUN:
            reasons = [part for part in (job.message, why, place) if part]
            return _stopped(job, JobState.QUEUED, "; ".join(reasons), now)


def _stopped(job: Job, state: JobState, message: str, now: datetime) -> Job:
    if job.state is not JobState.STOPPING and state is JobState.PAUSED:
        job = _move(job, JobState.STOPPING, now)
    return _move(job, state, now, message=message, node=None)


def _move(job: Job, state: JobState, now: datetime, **updates: Any) -> Job:
    if state is not job.state and state not in TRANSITIONS[job.state]:
        raise AssertionError(f"job {job.id} can't go from {job.state} to {state}")
    finished = {"finished_at": now} if state.finished else {}
    return job.model_copy(update={"state": state, **finished, **updates})


def _newer(one: Checkpoint, other: Checkpoint | None) -> bool:
    return other is None or one.step > other.step
