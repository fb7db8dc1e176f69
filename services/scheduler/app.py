"""Wires the scheduler: local copies of state, the lease, the loop, the endpoints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.scheduler.job_deployer import JobDeployer
from services.scheduler.leadership import Leader
from services.scheduler.policy.grace_period import GracePeriod
from services.scheduler.reconcile import ObservedState, Reconciler
from services.scheduler.service import SchedulerService
from services.scheduler.settings import Settings
from shared.bus.leases import LeaseTable
from shared.bus.records import Records
from shared.contracts.job import JOB_RUNS_BUCKET, JOBS_BUCKET, Job, JobRun
from shared.contracts.scheduler import (
    ASSIGNMENTS_BUCKET,
    DEPLOYMENTS_BUCKET,
    LEASES_BUCKET,
    NODES_BUCKET,
    REPLICAS_BUCKET,
    Deployment,
    NodeAssignment,
    NodeStatus,
    ReplicaStatus,
)
from shared.deadlines import LEASE_TTL_S
from shared.service.context import Context


@asynccontextmanager
async def app(context: Context, _: Settings, *, ttl: float = LEASE_TTL_S) -> AsyncIterator[None]:
    """Run a scheduler that leads or stands by; ready when all state is known.

    `ttl` is the time to live of leases in seconds, the scheduler's own included.
    """
    bus, changed = context.bus, asyncio.Event()
    observed = ObservedState(
        deployments=Records(bus.kv(DEPLOYMENTS_BUCKET), Deployment, changed.set),
        assignments=Records(bus.kv(ASSIGNMENTS_BUCKET), NodeAssignment, changed.set),
        nodes=LeaseTable(bus.kv(NODES_BUCKET), ttl, NodeStatus.decode),
        replicas=LeaseTable(bus.kv(REPLICAS_BUCKET), ttl, ReplicaStatus.decode),
        jobs=Records(bus.kv(JOBS_BUCKET), Job, changed.set),
        runs=LeaseTable(bus.kv(JOB_RUNS_BUCKET), ttl, JobRun.decode),
    )
    grace_period = GracePeriod(ttl=ttl, pause=ttl / 2)
    reconciler = Reconciler(bus, context.trail(), observed, changed, grace_period, tick=ttl / 10)

    @asynccontextmanager
    async def term() -> AsyncIterator[None]:
        async with service.running():
            changed.set()
            yield
        changed.set()

    leader = Leader(bus.kv(LEASES_BUCKET, ttl=ttl), context.instance, term, ttl=ttl)
    service = SchedulerService(bus, reconciler, lambda: leader.leading)
    deployer = JobDeployer(bus, reconciler, service.status, tick=ttl / 10)

    def leads() -> bool:
        return leader.leading

    async with observed.running(), reconciler.running(leads), deployer.running(leads), leader.running():
        context.readiness.probe("state", lambda: None if observed.synced else "not read yet")
        yield
