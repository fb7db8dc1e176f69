"""The endpoints of jobs, served while this process leads."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from services.scheduler.job_loop import detail
from services.scheduler.policy import job_rules
from services.scheduler.reconcile import Reconciler
from services.scheduler.resolve import resolve
from shared.bus.job_events import publish_job_event
from shared.bus.port import Bus
from shared.bus.rpc import Handlers
from shared.contracts.base import Empty
from shared.contracts.job import (
    CHANGE_JOB,
    CREATE_JOB,
    DELETE_JOB,
    LIST_JOBS,
    SHOW_JOB,
    ChangeJob,
    CreateJob,
    Desired,
    Input,
    Job,
    JobList,
    JobName,
    JobSpec,
    Work,
    run_key,
)
from shared.contracts.manifest import Kind
from shared.contracts.registry import DATASETS, MODELS, AnyCatalogue
from shared.errors import Conflict, InvalidInput, NotFound

WRITE_TRIES = 5
_NAMES_SHOWN = 10


@dataclass(slots=True)
class JobsService:
    """The handlers; `check` raises unless this process leads."""

    bus: Bus
    reconciler: Reconciler
    check: Callable[[], None]

    def handlers(self) -> Handlers:
        """By endpoint."""
        return {
            CREATE_JOB: self.create,
            SHOW_JOB: self.show,
            LIST_JOBS: self.list,
            CHANGE_JOB: self.change,
            DELETE_JOB: self.delete,
        }

    async def create(self, request: CreateJob) -> Job:
        """Queue a job, with its inputs pinned. The answer says why it waits."""
        self.check()
        records = self.reconciler.observed.jobs
        if request.request_id:
            existing = next((job for job in records.values.values() if job.request_id == request.request_id), None)
            if existing is not None:
                return self._view(existing)
        if request.kind == "run" and not request.command:
            raise InvalidInput("a job of kind 'run' needs the command that it runs", param="command")
        if request.node_count > 1 and (request.kind != "train" or request.uploads):
            raise InvalidInput("only a training on stored datasets runs on several nodes", param="node_count")
        self._check_names(request)
        base = await self._pin(MODELS, request.base) if request.base is not None else None
        spec = JobSpec(
            base=base,
            teacher=await self._pin(MODELS, request.teacher) if request.teacher is not None else None,
            datasets=tuple([await self._pin(DATASETS, reference) for reference in request.datasets]),
            **{name: getattr(request, name) for name in Work.model_fields},
        )
        self._check_names(request)  # the registry was asked meanwhile
        job = Job(
            id=request.id or _new_id(request.kind, records.values),
            spec=spec,
            fine_tuning=request.fine_tuning,
            request_id=request.request_id,
            owner=request.owner,
            priority=request.priority,
            resources=request.resources,
            retries=request.retries,
            created_at=datetime.now(UTC),
        )
        await self.reconciler.job_writer.changes.write(
            job.id, None, job, "job.created", by=request.owner or None, **detail(job)
        )
        await publish_job_event(self.bus, job.id, "state", f"{job.state}")
        await self.reconciler.attempt()
        return self._view(self._find(job.id))

    async def show(self, request: JobName) -> Job:
        """One job."""
        self.check()
        return self._view(self._find(request.id))

    async def list(self, _: Empty) -> JobList:
        """All jobs, the newest first."""
        self.check()
        jobs = sorted(self.reconciler.observed.jobs.values.values(), key=lambda job: job.created_at, reverse=True)
        return JobList(jobs=tuple(self._view(job) for job in jobs))

    async def change(self, request: ChangeJob) -> Job:
        """Pause, resume or cancel a job."""

        async def write(job: Job) -> None:
            after = job_rules.change(job, request.desired, datetime.now(UTC))
            if after != job:
                done = {Desired.RUN: "job.resumed", Desired.PAUSE: "job.paused", Desired.CANCEL: "job.cancelled"}
                await self.reconciler.job_writer.changes.write(
                    job.id, job, after, done[request.desired], state=after.state
                )
                await publish_job_event(self.bus, job.id, "state", f"{after.state}")

        await self._retried(request.id, write)
        await self.reconciler.attempt()
        return self._view(self._find(request.id))

    async def delete(self, request: JobName) -> Empty:
        """Forget a job that has finished. What it made stays."""

        async def remove(job: Job) -> None:
            if not job.state.finished:
                raise Conflict(f"job {job.id} is {job.state}; cancel it first")
            await self.reconciler.job_writer.changes.write(job.id, job, None, "job.deleted", state=job.state)

        await self._retried(request.id, remove)
        return Empty()

    def _check_names(self, request: CreateJob) -> None:
        """Raise unless the job may have its id, and what it makes may be deployed under the name it asks for."""
        if request.uploads and request.datasets:
            raise InvalidInput("give either uploads or datasets", param="uploads")
        if (request.uploads or request.deploy) and request.result_name is None:
            raise InvalidInput("uploads and deploy need the name of the result", param="result_name")
        if request.deploy is not None and request.result is not Kind.MODEL:
            raise InvalidInput("only a model can be deployed: set result to 'model'", param="deploy")
        observed = self.reconciler.observed
        if request.id is not None and observed.jobs.get(request.id) is not None:
            raise Conflict(f"there is a job {request.id} already", param="id")
        if request.deploy is None:
            return
        if observed.deployments.get(request.deploy) is not None:
            raise Conflict(f"there is a deployment {request.deploy} already; choose another name", param="deploy")
        for job in observed.jobs.values.values():
            if job.spec.deploy == request.deploy and job_rules.claims_deployment(job):
                raise Conflict(f"{job.id} will be deployed as {request.deploy}; choose another name", param="deploy")

    async def _retried(self, job_id: str, write: Callable[[Job], Awaitable[None]]) -> None:
        """Write to the record as it is; again where the loop, or a scheduler that led before, was faster."""
        for attempt in range(1, WRITE_TRIES + 1):
            self.check()
            try:
                await write(self._find(job_id))
            except Conflict:
                if attempt == WRITE_TRIES or self._settled(job_id):
                    raise
            else:
                return

    def _settled(self, job_id: str) -> bool:
        """Whether the job has finished: then a conflict is one of its state, and lasts."""
        return self._find(job_id).state.finished

    async def _pin(self, catalogue: AnyCatalogue, reference: str) -> Input:
        version = await resolve(self.bus, catalogue, reference)
        return Input(kind=catalogue.kind, name=version.name, version=version.version, digest=version.digest)

    def _find(self, job_id: str) -> Job:
        jobs = self.reconciler.observed.jobs
        job = jobs.get(job_id)
        if job is None:
            newest = sorted(jobs.values.values(), key=lambda one: one.created_at, reverse=True)[:_NAMES_SHOWN]
            there = ", ".join(one.id for one in newest) or "none"
            raise NotFound(f"there is no job {job_id!r}; the newest: {there}", param="id")
        return job

    def _view(self, job: Job) -> Job:
        """The record with the progress of its first node's run."""
        if not job.nodes:
            return job
        run = self.reconciler.observed.runs.live().get(run_key(job.id, job.nodes[0]))
        if run is None or run.attempt != job.attempt:
            return job
        return job.model_copy(update={"progress": run.progress})


def _new_id(kind: str, taken: dict[str, Job]) -> str:
    while True:
        job_id = f"{kind}-{secrets.token_hex(3)}"
        if job_id not in taken:
            return job_id
