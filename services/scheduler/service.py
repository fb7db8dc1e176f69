"""The endpoints of `shared.contracts.scheduler`, served while this process leads."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry import trace

from services.scheduler.jobs import JobsService
from services.scheduler.policy.desired import desired, rolled_back
from services.scheduler.policy.sizing import Size, asked_size, largest_that_fits, why_smaller
from services.scheduler.policy.status import deployment_status, node_view
from services.scheduler.reconcile import Reconciler, tracer
from services.scheduler.resolve import resolve
from shared.bus.port import Bus
from shared.bus.rpc import Handlers, serve
from shared.contracts.base import Empty
from shared.contracts.registry import MODELS
from shared.contracts.scheduler import (
    DEPLOY,
    LIST_DEPLOYMENTS,
    LIST_NODES,
    ROLLBACK,
    SHOW_DEPLOYMENT,
    UNDEPLOY,
    Deploy,
    Deployment,
    DeploymentList,
    DeploymentName,
    DeploymentStatus,
    NodeList,
    Rollback,
)
from shared.errors import Conflict, NotFound, Unavailable
from shared.telemetry import genai
from shared.telemetry.origins import origin_now

QUEUE = "scheduler"
WRITE_TRIES = 5


@dataclass(slots=True)
class SchedulerService:
    """The handlers; they run while this process leads."""

    bus: Bus
    reconciler: Reconciler
    leads: Callable[[], bool]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SchedulerService"]:
        """Respond while inside; leaving takes no new requests and finishes those that run."""
        handlers: Handlers = {
            DEPLOY: self.deploy,
            ROLLBACK: self.rollback,
            UNDEPLOY: self.undeploy,
            SHOW_DEPLOYMENT: self.show_deployment,
            LIST_DEPLOYMENTS: self.list_deployments,
            LIST_NODES: self.list_nodes,
            **JobsService(self.bus, self.reconciler, self._check).handlers(),
        }
        async with serve(self.bus, handlers, queue=QUEUE, tracer=tracer):
            yield self

    async def deploy(self, request: Deploy) -> DeploymentStatus:
        """Record the desired state, and place its replicas. The status says why a replica has no node yet.

        Raises:
            Conflict: The replicas would fit on no node; or the deployment has another revision than was expected.
            InvalidInput, NotFound, Unavailable: See `desired` and `resolve`.
        """
        version = await resolve(self.bus, MODELS, request.reference)

        def after(before: Deployment | None) -> Deployment:
            now = datetime.now(UTC)
            record = desired(request, version, before, now)
            if request.allow_unplaced or record == before or not self.reconciler.misfits(record):
                return record

            def of(size: Size, *, named: bool = False) -> Deployment:
                asked = request.model_copy(update=size._asdict()) if named else request
                return desired(asked, version, before, now, size)

            return self._fitting(record, asked_size(record.asked or record.options, version.manifest), of)

        name = request.name or version.name
        if request.dry_run:
            self._check()
            result = self.status(after(self.reconciler.observed.deployments.get(name)))
        else:
            result = await self._change(name, after)
        return result.model_copy(update={"note": why_smaller(result.deployment, version.manifest)})

    async def rollback(self, request: Rollback) -> DeploymentStatus:
        """Bring back the previous revision; raises `Conflict` without one, and `NotFound` if its version is gone."""
        self._check()
        previous = self._find(request.name).previous
        if previous is not None:
            version = await resolve(self.bus, MODELS, f"{previous.model}:{previous.version}")
            if version.digest != previous.digest:
                raise Conflict(
                    f"{version.reference} is another version now than the one that was deployed", param="name"
                )

        def after(before: Deployment | None) -> Deployment:
            if before is None:
                raise NotFound(f"the deployment {request.name!r} was removed", param="name")
            return rolled_back(before, by=request.by, if_revision=request.if_revision)

        return await self._change(request.name, after)

    async def undeploy(self, request: DeploymentName) -> Empty:
        """Remove the deployment: its replicas drain."""
        self._check()
        record = self._find(request.name)
        await self.reconciler.deployments.write(request.name, record, None, "deployment.removed")
        await self.reconciler.attempt()
        return Empty()

    async def show_deployment(self, request: DeploymentName) -> DeploymentStatus:
        """One deployment."""
        self._check()
        return self.status(self._find(request.name))

    async def list_deployments(self, _: Empty) -> DeploymentList:
        """All deployments, by name."""
        self._check()
        records = self.reconciler.observed.deployments.values.values()
        return DeploymentList(deployments=tuple(self.status(record) for record in records))

    async def list_nodes(self, _: Empty) -> NodeList:
        """All nodes that are up, by id."""
        self._check()
        observed = self.reconciler.observed
        views = (
            node_view(node, observed.assignments.get(key)) for key, node in sorted(observed.nodes.live().items())
        )
        return NodeList(nodes=tuple(views))

    async def _change(self, name: str, after: Callable[[Deployment | None], Deployment]) -> DeploymentStatus:
        """Write the record that comes after the one that is there, and place its replicas."""
        record = await self._write(name, after)
        await self.reconciler.attempt()
        placement = self.reconciler.placement
        for reason in placement.unplaced.get(name, ()) if placement else ():
            trace.get_current_span().add_event("not placed", {genai.DEPLOYMENT: name, "reason": reason})
        return self.status(record)

    async def _write(self, name: str, after: Callable[[Deployment | None], Deployment]) -> Deployment:
        """Write the record, unless it stands there already."""
        for attempt in range(1, WRITE_TRIES + 1):
            self._check()
            records = self.reconciler.observed.deployments
            before = records.get(name)
            record = after(before)
            if record == before:
                return record
            record = record.model_copy(update={"origin": origin_now()})
            try:
                await self.reconciler.deployments.write(
                    name,
                    before,
                    record,
                    "deployment.created" if before is None else "deployment.changed",
                    by=record.changed_by or None,
                    version=f"{record.model}:{record.version}",
                    replicas=str(record.replicas),
                    revision=str(record.revision),
                )
            except Conflict:  # a scheduler that led before wrote it in between; the record was read again
                if attempt == WRITE_TRIES:
                    raise
            else:
                return record
        raise AssertionError("the last try returns or raises")

    def _fitting(self, record: Deployment, size: Size, of: Callable[..., Deployment]) -> Deployment:
        """The largest record that fits, of those with fewer slots or a shorter length than `record`, which doesn't.

        Args:
            record: What was asked for.
            size: Its size.
            of: The record with another size, for that of what was not named; with `named`, for all.

        Raises:
            Conflict: None fits; it says which size would, had it been asked for.
        """
        asked = record.asked or record.options
        named = {"slots_named": asked.slots is not None, "max_len_named": asked.max_len is not None}
        misfits = self.reconciler.misfits
        if not all(named.values()):
            found = largest_that_fits(size, lambda other: not misfits(of(other)), **named)
            if found is not None:
                return of(found)
        smaller = largest_that_fits(size, lambda other: not misfits(of(other, named=True)))
        advice = f"{smaller} would fit" if smaller else "no number of slots would: ask for fewer replicas or threads"
        reasons = misfits(record)
        raise Conflict(
            f"{len(reasons)} of {record.replicas} replicas of {record.name} would fit on no node ({reasons[0]});"
            f" {advice}. Or ask for allow_unplaced",
            param="replicas",
        )

    def _find(self, name: str) -> Deployment:
        records = self.reconciler.observed.deployments
        record = records.get(name)
        if record is None:
            names = ", ".join(records.values) or "none"
            raise NotFound(f"there is no deployment {name!r}; deployments: {names}", param="name")
        return record

    def status(self, record: Deployment) -> DeploymentStatus:
        """Desired and observed state of a deployment."""
        observed, placement = self.reconciler.observed, self.reconciler.placement
        return deployment_status(
            record,
            observed.assignments.values.values(),
            observed.replicas.live(),
            observed.nodes.live(),
            placement.unplaced.get(record.name, ()) if placement else (),
        )

    def _check(self) -> None:
        """A scheduler that has just lost its lease must not answer from what it knew."""
        if not (self.leads() and self.reconciler.observed.synced):
            raise Unavailable("this scheduler does not lead; try again", retry_after=1.0)
