"""The endpoints of `shared.contracts.registry`: those of each catalogue, and the garbage collection over all."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from opentelemetry import trace

from services.registry.blob_checks import BlobChecks
from services.registry.collection import collect
from services.registry.endpoints import CatalogueEndpoints
from services.registry.records import Records
from shared.audit.trail import Trail
from shared.bus.port import Bus
from shared.bus.rpc import Handlers, serve
from shared.contracts.events import CHAINS
from shared.contracts.file import FILES_BUCKET
from shared.contracts.job import JOBS_BUCKET
from shared.contracts.manifest import Kind
from shared.contracts.registry import CATALOGUES, COLLECT_GARBAGE, CollectGarbage, GarbageReport
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET
from shared.contracts.scrub import CHECK_BLOB, LIST_SCRUBS
from shared.storage.port import ArtifactStore

QUEUE = "registry"

_tracer = trace.get_tracer("llmos.registry")


class RegistryService:
    """The handlers. Any number of processes may run them at once: what they share is in KV and in the store.

    Args:
        bus: For the records, the events and the endpoints.
        store: For blobs and manifests.
        actor: This process, by instance; named in events.
        now: The time in UTC.
    """

    def __init__(
        self, bus: Bus, store: ArtifactStore, *, actor: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._bus = bus
        self._store = store
        self._now = now
        self._trail = Trail(bus, CHAINS["registry"], actor=actor, now=now)
        self._records = {catalogue.kind: Records(bus, catalogue.bucket, self._trail) for catalogue in CATALOGUES}
        self._jobs = bus.kv(JOBS_BUCKET)
        self._files = bus.kv(FILES_BUCKET)
        deployments = bus.kv(DEPLOYMENTS_BUCKET)
        self.catalogues = {
            catalogue.kind: CatalogueEndpoints(catalogue, self._records[catalogue.kind], store, deployments, now=now)
            for catalogue in CATALOGUES
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RegistryService"]:
        """Respond while inside; leaving takes no new requests and finishes those that run."""
        checks = BlobChecks(self._bus, self._store)
        handlers: Handlers = {
            COLLECT_GARBAGE: self.collect_garbage,
            CHECK_BLOB: checks.check_blob,
            LIST_SCRUBS: checks.list_scrubs,
        }
        for endpoints in self.catalogues.values():
            handlers = {**handlers, **endpoints.handlers()}
        async with serve(self._bus, handlers, queue=QUEUE, tracer=_tracer):
            yield self

    async def collect_garbage(self, request: CollectGarbage) -> GarbageReport:
        """Remove, or only name, what no version refers to."""
        if not request.dry_run:
            await self._trail.record("garbage.requested", "store")
        garbage = await collect(
            self._records,
            self._store,
            self._jobs,
            self._files,
            now=self._now(),
            grace=timedelta(seconds=request.grace),
            dry_run=request.dry_run,
            only=request.blobs,
        )
        if not request.dry_run:
            removed = {"blobs": str(len(garbage.blobs)), "bytes": str(garbage.size)}
            await self._trail.note("garbage.collected", "store", **removed)
        return GarbageReport(
            blobs=garbage.blobs,
            manifests=tuple(
                f"{'' if kind is Kind.MODEL else f'{kind} '}{name}:{number}"
                for kind, name, number in garbage.manifests
            ),
            size=garbage.size,
            dry_run=request.dry_run,
        )
