"""Deploys what jobs made, under the name that was asked for.

What is done stands in the job's record, so a scheduler that leads next goes on with it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.scheduler.policy import job_deployment
from services.scheduler.policy.desired import desired
from services.scheduler.reconcile import Reconciler
from services.scheduler.resolve import resolve
from shared.bus.port import Bus
from shared.contracts.job import DeployState, Job
from shared.contracts.registry import MODELS
from shared.contracts.scheduler import Deploy, Deployment, DeploymentStatus
from shared.errors import Conflict, LlmosError
from shared.service.background import background

_log = structlog.get_logger("llmos.scheduler")


@dataclass(slots=True)
class JobDeployer:
    """Looks at jobs that have succeeded, every `tick` seconds, while `leads()`.

    bus: for the registry
    reconciler: has the state, and places what is deployed
    status: of a deployment
    """

    bus: Bus
    reconciler: Reconciler
    status: Callable[[Deployment], DeploymentStatus]
    tick: float

    @asynccontextmanager
    async def running(self, leads: Callable[[], bool]) -> AsyncIterator["JobDeployer"]:
        """Deploy while inside."""
        async with background(self._run(leads), "deploy results"):
            yield self

    async def _run(self, leads: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(self.tick)
            observed = self.reconciler.observed
            for job in observed.jobs.values.values():
                if job_deployment.due(job) and leads() and observed.fresh:
                    await self._bring(job)

    async def _bring(self, job: Job) -> None:
        """One step of one job; what fails for a time is tried again at the next tick."""
        try:
            after = await self._deploy(job) if job.deployed is DeployState.PENDING else self._observe(job)
        except LlmosError as error:
            if error.retryable or isinstance(error, Conflict):
                _log.warning("job.not_deployed", name=job.id, error=error.message, retrying=True)
                return
            after = job_deployment.refused(job, error.message)
        await self._write(job, after)

    async def _deploy(self, job: Job) -> Job:
        name, reference = job.spec.deploy, job_deployment.made_model(job)
        assert name is not None
        if reference is None:
            return job_deployment.refused(job, "the job made no model")
        deployments = self.reconciler.observed.deployments
        record = deployments.get(name)
        if record is None:
            version = await resolve(self.bus, MODELS, reference)
            request = Deploy(reference=reference, name=name, by=job.id)
            record = desired(request, version, None, datetime.now(UTC))
            if (there := deployments.get(name)) is not None:  # made while the registry was asked
                return job_deployment.deployed(job, there)
            await self.reconciler.deployments.write(
                name, None, record, "deployment.created", by=job.id, version=reference, replicas="1"
            )
            await self.reconciler.attempt()
        return job_deployment.deployed(job, record)

    def _observe(self, job: Job) -> Job:
        record = self.reconciler.observed.deployments.get(job.spec.deploy or "")
        return job_deployment.observed(job, self.status(record) if record is not None else None)

    async def _write(self, before: Job, after: Job) -> None:
        try:
            await self.reconciler.job_writer.write({before.id: before}, {after.id: after})
        except LlmosError as error:
            _log.warning("job.not_written", name=before.id, error=error.message, retrying=True)
