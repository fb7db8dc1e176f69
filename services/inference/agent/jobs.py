"""The jobs of a node: starts and stops their processes, reports them, and registers what they made."""

import asyncio
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from services.inference.agent.job_process import JobCommand, JobProcess
from shared.audit.caller import working_for
from shared.bus.job_events import publish_job_event
from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.base import Contract, Endpoint
from shared.contracts.job import (
    JOB_RUNS_BUCKET,
    JOBS_BUCKET,
    STOPPED_EXIT_CODE,
    Checkpoint,
    EventKind,
    Job,
    JobAssignment,
    JobRun,
    JobState,
    NewVersion,
    ProcessMessage,
    Progress,
    RunState,
    run_key,
)
from shared.contracts.registry import CATALOGUES, AnyCatalogue, VersionInfo
from shared.deadlines import ADMIN_CALL_S, JOB_CANCEL_S, JOB_STOP_S, LEASE_TTL_S
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.agent")

_REGISTER_TRIES = 60
_REGISTER_RETRY_S = 2.0
_LINES_WAITING = 1000
"""Log lines that wait for the bus; what comes beyond is in the log file of the node only."""


@dataclass(slots=True, eq=False)
class NodeJob:
    """One attempt of a job on this node."""

    process: JobProcess
    progress: Progress = field(default_factory=Progress)
    checkpoint: Checkpoint | None = None
    rendezvous: str = ""
    """Where the process waits for those of the job's other nodes."""
    versions: list[NewVersion] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    registering: asyncio.Task[None] | None = None
    not_registered: str = ""
    """Why a result did not become a version."""

    @property
    def finished(self) -> bool:
        """Whether the process has ended, and its results are registered."""
        return self.process.ended and (self.registering is None or self.registering.done())


class NodeJobs:
    """All jobs of this node.

    Args:
        bus: For reports, events and the registry.
        node: The node's id.
        command: How a job's process is started.
        on_change: Called when there is something to report.
    """

    def __init__(self, bus: Bus, node: str, command: JobCommand, on_change: Callable[[], None]) -> None:
        self._bus = bus
        self._node = node
        self._command = command
        self._on_change = on_change
        self._runs = bus.kv(JOB_RUNS_BUCKET, ttl=LEASE_TTL_S)
        self._jobs: dict[str, NodeJob] = {}
        self._deferred: dict[str, JobRun] = {}
        """Jobs without a process, with what is reported of them."""
        self._events: asyncio.Queue[tuple[str, EventKind, str, Progress | None]] = asyncio.Queue(_LINES_WAITING)

    @property
    def memory(self) -> int:
        """Bytes granted to the processes that have not ended."""
        return sum(job.process.assignment.resources.memory for job in self._jobs.values() if not job.process.ended)

    async def follow(self) -> None:
        """Publish events until cancelled. Removes the folders of jobs that are over first."""
        with suppress(LlmosError):
            await self._remove_folders()
        while True:
            job, kind, message, progress = await self._events.get()
            try:
                await publish_job_event(self._bus, job, kind, message, progress=progress)
            except LlmosError as error:
                _log.warning("job_event.not_published", job=job, error=error.message)

    async def apply(self, desired: Iterable[JobAssignment], free: int) -> None:
        """Bring the processes closer to what is assigned.

        Args:
            desired: The jobs that are assigned to this node.
            free: Bytes that no replica holds.
        """
        desired = list(desired)
        by_id = {assignment.id: assignment for assignment in desired}
        for key in list(self._jobs):
            await self._end_unassigned(key, by_id.get(key))
        self._deferred.clear()
        for assignment in desired:
            await self._bring(assignment, free)

    async def write_statuses(self) -> None:
        """Renew the report of each job."""
        reports = [self._report(key, job) for key, job in self._jobs.items()]
        for run in [*reports, *self._deferred.values()]:
            try:
                await self._runs.put(run.key, run.encode())
            except LlmosError as error:
                _log.warning("job_run.not_written", job=run.id, error=error.message)

    async def close(self, timeout: float) -> None:
        """Stop all jobs with a checkpoint; kill what is left after `timeout` seconds."""
        for job in self._jobs.values():
            job.process.stop(timeout)
        await asyncio.gather(*(job.process.wait() for job in self._jobs.values()))
        with suppress(LlmosError):
            await self.write_statuses()

    async def _bring(self, assignment: JobAssignment, free: int) -> None:
        job = self._jobs.get(assignment.id)
        if job is None and assignment.stop != "no":
            self._deferred[assignment.id] = self._without_process(assignment, RunState.ENDED, STOPPED_EXIT_CODE)
        elif job is None and assignment.rank > 0 and not assignment.rendezvous:
            reason = "waits for the job's first node"
            self._deferred[assignment.id] = self._without_process(assignment, RunState.STARTING, None, reason)
        elif job is None:
            await self._start(assignment, free)
        elif assignment.stop == "checkpoint":
            job.process.stop(JOB_STOP_S)
        elif assignment.stop == "now":
            job.process.stop(JOB_CANCEL_S)

    async def _start(self, assignment: JobAssignment, free: int) -> None:
        left = free - self.memory
        if assignment.resources.memory > left:
            reason = f"waits for memory on {self._node}: needs {assignment.resources.memory}, {left} bytes are free"
            self._deferred[assignment.id] = self._without_process(assignment, RunState.STARTING, None, reason)
            return
        key = assignment.id

        def on_message(message: ProcessMessage) -> None:
            self._take(key, message)

        def on_line(line: str) -> None:
            self._publish(key, "log", line if assignment.spec.node_count == 1 else f"{self._node}: {line}")

        process = JobProcess(
            assignment, self._command, on_message=on_message, on_line=on_line, on_end=self._on_change
        )
        self._jobs[key] = NodeJob(process, checkpoint=assignment.checkpoint)
        try:
            await process.start()
        except OSError as error:
            del self._jobs[key]
            reason = f"its process could not be started: {error}"
            _log.error("job.not_started", job=key, error=str(error))
            self._deferred[key] = self._without_process(assignment, RunState.ENDED, 1, reason)

    def _take(self, key: str, message: ProcessMessage) -> None:
        job = self._jobs[key]
        if message.progress is not None:
            job.progress = message.progress
            total = f" of {message.progress.steps}" if message.progress.steps else ""
            self._publish(key, "progress", f"step {message.progress.step}{total}", message.progress)
        if message.checkpoint is not None:
            job.checkpoint = message.checkpoint
            self._publish(key, "checkpoint", f"step {message.checkpoint.step}", job.progress)
        if message.rendezvous is not None:
            job.rendezvous = message.rendezvous
        if message.result is not None:
            job.versions.append(message.result)
            if job.registering is None or job.registering.done():
                job.registering = asyncio.create_task(self._register(key, job), name=f"register results of {key}")
        self._on_change()

    async def _register(self, key: str, job: NodeJob) -> None:
        """Make versions of what the job made; waits for a registry that is down."""
        while job.versions:
            version = job.versions[0]
            for attempt in range(1, _REGISTER_TRIES + 1):
                try:
                    with working_for(key):
                        job.results.append(await self._create(version))
                    self._publish(key, "result", job.results[-1])
                    break
                except LlmosError as error:
                    if not error.retryable or attempt == _REGISTER_TRIES:
                        job.not_registered = f"{version.kind} {version.name} was not registered: {error.message}"
                        break
                    _log.warning("job_result.not_registered", job=key, error=error.message, retrying=True)
                    await asyncio.sleep(_REGISTER_RETRY_S)
            job.versions.pop(0)
        self._on_change()

    async def _create(self, version: NewVersion) -> str:
        catalogue: AnyCatalogue = next(one for one in CATALOGUES if one.kind is version.kind)
        request = catalogue.create.request(name=version.name, manifest=version.manifest)
        endpoint: Endpoint[Contract, VersionInfo] = catalogue.create
        made = await call(self._bus, endpoint, request, timeout=ADMIN_CALL_S)
        return f"{version.kind} {made.reference}"

    async def _end_unassigned(self, key: str, assignment: JobAssignment | None) -> None:
        """Stop what is not assigned any more, or as another attempt; forget it when it has ended."""
        job = self._jobs[key]
        if assignment is not None and assignment.attempt == job.process.assignment.attempt:
            return
        if not job.process.ended:
            job.process.stop(JOB_CANCEL_S)
            return
        del self._jobs[key]
        if assignment is None:
            with suppress(LlmosError):
                await self._runs.delete(run_key(key, self._node))
            with suppress(LlmosError):
                await self._remove_folders()

    def _report(self, key: str, job: NodeJob) -> JobRun:
        code = job.process.exit_code if job.finished else None
        message = job.process.failure
        if code == 0 and job.not_registered:
            code, message = 1, job.not_registered
        return JobRun(
            id=key,
            node=self._node,
            attempt=job.process.assignment.attempt,
            state=RunState.ENDED if job.finished else RunState.RUNNING,
            rendezvous=job.rendezvous,
            exit_code=code,
            message=message if code else "",
            progress=job.progress,
            checkpoint=job.checkpoint,
            results=tuple(job.results),
        )

    def _without_process(
        self, assignment: JobAssignment, state: RunState, code: int | None, message: str = ""
    ) -> JobRun:
        return JobRun(
            id=assignment.id,
            node=self._node,
            attempt=assignment.attempt,
            state=state,
            exit_code=code,
            message=message,
            checkpoint=assignment.checkpoint,
        )

    def _publish(self, key: str, kind: EventKind, message: str, progress: Progress | None = None) -> None:
        with suppress(asyncio.QueueFull):
            self._events.put_nowait((key, kind, message, progress))

    async def _remove_folders(self) -> None:
        """Remove the folders of jobs that succeeded, were cancelled or are forgotten."""
        records = {entry.key: Job.decode(entry.value) for entry in await self._bus.kv(JOBS_BUCKET).entries()}
        over = {JobState.SUCCEEDED, JobState.CANCELLED}
        folders = await asyncio.to_thread(lambda: list(self._command.work_dir.glob("*/")))
        for folder in folders:
            record = records.get(folder.name)
            if folder.name not in self._jobs and (record is None or record.state in over):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
