"""The loop: compute and write assignments at every change of the state, and every tick."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog
from opentelemetry import trace

from services.scheduler.job_loop import JobWriter
from services.scheduler.policy import job_rules
from services.scheduler.policy.grace_period import GracePeriod
from services.scheduler.policy.job_placement import place_beside_jobs, place_jobs, with_jobs
from services.scheduler.policy.placement import Placement, place
from shared.audit.records import RecordChanges
from shared.audit.trail import Trail
from shared.bus.leases import LeaseTable
from shared.bus.port import Bus
from shared.bus.records import Records
from shared.contracts.job import JOBS_BUCKET, Job, JobRun
from shared.contracts.scheduler import (
    DEPLOYMENTS_BUCKET,
    Deployment,
    NodeAssignment,
    NodeStatus,
    ReplicaAssignment,
    ReplicaState,
    ReplicaStatus,
)
from shared.errors import Conflict, LlmosError
from shared.service.background import background
from shared.telemetry import genai, origins

_log = structlog.get_logger("llmos.scheduler")
tracer = trace.get_tracer("llmos.scheduler")


@dataclass(slots=True)
class ObservedState:
    """Local copies of all that placement reads."""

    deployments: Records[Deployment]
    assignments: Records[NodeAssignment]
    nodes: LeaseTable[NodeStatus]
    replicas: LeaseTable[ReplicaStatus]
    jobs: Records[Job]
    runs: LeaseTable[JobRun]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ObservedState"]:
        """Follow all buckets while inside."""
        async with (
            self.nodes.running(),
            self.replicas.running(),
            self.runs.running(),
            self.jobs.running(),
            self.deployments.running(),
            self.assignments.running(),
        ):
            yield self

    @property
    def synced(self) -> bool:
        """Whether deployments, jobs and assignments are known."""
        return self.deployments.synced and self.assignments.synced and self.jobs.synced

    @property
    def fresh(self) -> bool:
        """Whether all is seen as it is now."""
        return self.synced and self.nodes.fresh and self.replicas.fresh and self.runs.fresh


@dataclass(slots=True)
class Reconciler:
    """Writes assignments while `leads()` says that this process leads."""

    bus: Bus
    trail: Trail
    observed: ObservedState
    changed: asyncio.Event
    """Set by every change of `observed`."""
    grace_period: GracePeriod
    tick: float
    """Seconds. The loop looks at least this often: leases run out without a message."""
    placement: Placement | None = None
    """The result of the last pass."""
    deployments: RecordChanges[Deployment] = field(init=False)
    job_writer: JobWriter = field(init=False)
    _grace_over: bool = False
    _nodes: set[str] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.deployments = RecordChanges(DEPLOYMENTS_BUCKET, self.observed.deployments, self.trail)
        self.job_writer = JobWriter(self.bus, RecordChanges(JOBS_BUCKET, self.observed.jobs, self.trail))

    @asynccontextmanager
    async def running(self, leads: Callable[[], bool]) -> AsyncIterator["Reconciler"]:
        """Reconcile while inside, whenever `leads` says that this process leads."""
        async with background(self._run(leads), "reconcile"):
            yield self

    async def _run(self, leads: Callable[[], bool]) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.tick):
                    await self.changed.wait()
            self.changed.clear()
            self._grace_over = self.grace_period.is_over(now=time.monotonic(), fresh=self.observed.nodes.fresh)
            if leads():
                await self.attempt()
            else:
                self._nodes = None

    def misfits(self, record: Deployment) -> tuple[str, ...]:
        """Why replicas of `record` would fit on no node, if all deployments were placed anew and no job ran.

        Empty while no node is up: the nodes may be on their way.
        """
        observed = self.observed
        nodes = observed.nodes.live()
        if not nodes:
            return ()
        deployments = {**observed.deployments.values, record.name: record}
        placed = place(deployments.values(), nodes.values(), (), ready=frozenset(), token="")
        return placed.unplaced.get(record.name, ())

    async def attempt(self) -> None:
        """Reconcile now, if all is seen as it is; a failed write is logged. The loop tries again in either case."""
        if not self.observed.fresh:
            return
        try:
            await self.reconcile()
        except LlmosError as error:
            _log.warning("assignments.not_written", error=error.message, retrying=True)

    async def reconcile(self) -> None:
        """One pass: place, and write what differs. Raises what writing raises."""
        async with self._lock:
            begun = time.time_ns()
            observed = self.observed
            nodes = observed.nodes.live()
            assigned = observed.assignments.values
            before = observed.jobs.values
            jobs = self._reported(before, nodes)
            ready = {key for key, status in observed.replicas.live().items() if status.state is ReplicaState.READY}
            place_replicas = partial(
                place,
                observed.deployments.values.values(),
                nodes.values(),
                assigned.values(),
                ready=ready,
                token=secrets.token_hex(8),
                grace_over=self._grace_over,
            )
            self.placement = place_beside_jobs(jobs.values(), lambda held: place_replicas(jobs=held))
            await self._publish_nodes(set(nodes))
            decided = place_jobs(jobs.values(), nodes, self.placement, now=datetime.now(UTC))
            jobs = await self.job_writer.write(before, jobs | {job.id: job for job in decided})
            for node, desired in with_jobs(self.placement.assignments, jobs.values()).items():
                if desired != assigned.get(node):
                    await self._write(desired, assigned.get(node), absent=node not in nodes, begun=begun)

    def _reported(self, jobs: Mapping[str, Job], nodes: Mapping[str, NodeStatus]) -> dict[str, Job]:
        """The jobs with what their nodes report of them."""
        runs: dict[str, list[JobRun]] = {}
        for run in self.observed.runs.live().values():
            runs.setdefault(run.id, []).append(run)
        now = datetime.now(UTC)
        return {
            key: job_rules.observe(
                job, runs.get(key, ()), lost=set(job.nodes) - set(nodes) if self._grace_over else (), now=now
            )
            for key, job in jobs.items()
        }

    async def _write(
        self, desired: NodeAssignment, before: NodeAssignment | None, *, absent: bool, begun: int
    ) -> None:
        node = desired.node
        if self.observed.assignments.get(node) != before:
            raise Conflict(f"the assignment of {node} changed while it was computed")
        if absent and not desired.replicas and not desired.jobs:
            await self.observed.assignments.delete(node)
        else:
            await self.observed.assignments.write(node, desired)
        old = {replica.id: replica for replica in before.replicas} if before else {}
        new = {replica.id: replica for replica in desired.replicas}
        for key in sorted(set(new) - set(old)):
            _trace(new[key], node, begun)
            await self.trail.note("replica.placed", key, deployment=new[key].deployment, node=node)
        for key in sorted(set(old) - set(new)):
            await self.trail.note("replica.removed", key, deployment=old[key].deployment, node=node)

    async def _publish_nodes(self, nodes: set[str]) -> None:
        """Publish which nodes joined and were lost since the last pass; the first pass only notes them."""
        if self._nodes is not None and self._grace_over:
            for node in sorted(nodes - self._nodes):
                await self.trail.note("node.joined", node)
            for node in sorted(self._nodes - nodes):
                await self.trail.note("node.lost", node)
        if self._nodes is None or self._grace_over:
            self._nodes = nodes


def _trace(replica: ReplicaAssignment, node: str, begun: int) -> None:
    """The span of a placement; `begun` is when the pass began, in Unix time in nanoseconds."""
    attributes: dict[str, str | int] = {
        genai.DEPLOYMENT: replica.deployment,
        genai.REPLICA: replica.id,
        genai.NODE: node,
        genai.MODEL: replica.model,
        genai.MODEL_VERSION: replica.version,
        genai.GRANTED_MEMORY: replica.resources.memory,
        genai.GRANTED_THREADS: replica.resources.threads,
        genai.DEVICE: replica.gpu or replica.device,
    }
    name = f"place {replica.deployment}"
    origins.begin(tracer, name, replica.origin, attributes, start_time=begun).end()
