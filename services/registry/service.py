"""The endpoints of `shared.contracts.registry`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog
from opentelemetry import trace

from services.registry import catalogue
from services.registry.collection import collect
from services.registry.creation import create_version
from services.registry.events import publish_event
from services.registry.files import read_manifest
from services.registry.records import ModelRecords
from shared.bus.port import Bus
from shared.bus.rpc import Handlers, serve
from shared.contracts.base import Empty
from shared.contracts.manifest import Manifest
from shared.contracts.registry import (
    COLLECT_GARBAGE,
    CREATE_VERSION,
    DELETE_VERSION,
    LIST_MODELS,
    RESOLVE,
    SET_ALIAS,
    CollectGarbage,
    CreateVersion,
    DeleteVersion,
    GarbageReport,
    ModelList,
    ModelRecord,
    ResolveReference,
    SetAlias,
    VersionEntry,
    VersionInfo,
)
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment
from shared.errors import InvalidInput, LlmosError
from shared.storage.port import ArtifactStore
from shared.telemetry import genai

QUEUE = "registry"

_log = structlog.get_logger("llmos.registry")
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
        self._actor = actor
        self._now = now
        self._records = ModelRecords(bus)
        self._deployments = bus.kv(DEPLOYMENTS_BUCKET)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RegistryService"]:
        """Respond while inside; leaving takes no new requests and finishes those that run."""
        handlers: Handlers = {
            CREATE_VERSION: self.create_version,
            RESOLVE: self.resolve,
            LIST_MODELS: self.list_models,
            SET_ALIAS: self.set_alias,
            DELETE_VERSION: self.delete_version,
            COLLECT_GARBAGE: self.collect_garbage,
        }
        async with serve(self._bus, handlers, queue=QUEUE, tracer=_tracer):
            yield self

    async def create_version(self, request: CreateVersion) -> VersionInfo:
        """Make a version from blobs that are in the store, or return the one with the same manifest."""
        _describe(request.model)
        record, entry, created = await create_version(self._records, self._store, request, self._now)
        _describe(request.model, entry.version)
        info = _info(record, entry, request.manifest)
        if created:
            await self._publish(
                "version.created", info.reference, digest=entry.digest, aliases=",".join(info.aliases)
            )
        return info

    async def resolve(self, request: ResolveReference) -> VersionInfo:
        """Which version a reference means now, with its manifest."""
        reference = catalogue.parse_reference(request.reference)
        record = await self._find(reference.name)
        entry = catalogue.resolve(record, reference)
        _describe(record.name, entry.version)
        return _info(record, entry, await read_manifest(self._store, record.name, entry))

    async def list_models(self, _: Empty) -> ModelList:
        """All models, by name."""
        models = await self._records.all()
        return ModelList(models=tuple(models[name] for name in sorted(models) if models[name].versions))

    async def set_alias(self, request: SetAlias) -> ModelRecord:
        """Point an alias at a version, or remove it."""
        name, alias, version = request.model, request.alias, request.version
        await self._find(name)
        _describe(name, version)
        if version is None:
            change = await self._records.change(name, lambda record: catalogue.remove_alias(record, alias))
            await self._publish("alias.removed", f"{name}@{alias}")
        else:
            change = await self._records.change(name, lambda record: catalogue.point(record, [alias], version))
            if change.after != change.before:
                await self._publish("alias.set", f"{name}@{alias}", version=str(version))
        return change.after

    async def delete_version(self, request: DeleteVersion) -> Empty:
        """Delete a version or a whole model, unless a deployment uses it. Its blobs are left to `collect_garbage`."""
        reference = catalogue.parse_reference(request.reference)
        if reference.alias is not None:
            raise InvalidInput(
                f"{reference} is an alias: remove the alias, or delete a version by its number", param="reference"
            )
        name, version = reference.name, reference.version
        await self._find(name)
        _describe(name, version)
        deployments = [Deployment.decode(entry.value) for entry in await self._deployments.entries()]
        catalogue.require_unused(deployments, name, version)
        before, after = await self._records.change(name, lambda record: catalogue.delete(record, version))
        await self._delete_manifests(name, [entry for entry in before.versions if entry not in after.versions])
        await self._publish("version.deleted" if version else "model.deleted", str(reference))
        return Empty()

    async def collect_garbage(self, request: CollectGarbage) -> GarbageReport:
        """Remove, or only name, what no version refers to."""
        garbage = await collect(
            self._records,
            self._store,
            now=self._now(),
            grace=timedelta(seconds=request.grace),
            dry_run=request.dry_run,
            only=request.blobs,
        )
        if not request.dry_run:
            await self._publish("garbage.collected", "store", blobs=str(len(garbage.blobs)), bytes=str(garbage.size))
        return GarbageReport(
            blobs=garbage.blobs,
            manifests=tuple(f"{model}:{number}" for model, number in garbage.manifests),
            size=garbage.size,
            dry_run=request.dry_run,
        )

    async def _find(self, name: str) -> ModelRecord:
        """The record of a model that has versions; `NotFound` names those that exist."""
        if str(catalogue.parse_reference(name).name) != name:
            raise InvalidInput(f"{name!r} is more than the name of a model", param="model")
        record = await self._records.get(name)
        return catalogue.require_model(
            {name: record} if record and record.versions else await self._records.all(), name
        )

    async def _delete_manifests(self, name: str, entries: list[VersionEntry]) -> None:
        """Without a record they are invisible; garbage collection deletes what can't be deleted now."""
        for entry in entries:
            try:
                await self._store.delete_manifest(name, entry.version)
            except LlmosError as error:
                _log.warning(
                    "manifest.not_deleted",
                    version=f"{name}:{entry.version}",
                    error=error.message,
                    consequence="garbage collection deletes it",
                )

    async def _publish(self, kind: str, name: str, **detail: str) -> None:
        await publish_event(self._bus, kind, name, actor=self._actor, at=self._now(), **detail)


def _info(record: ModelRecord, entry: VersionEntry, manifest: Manifest) -> VersionInfo:
    return VersionInfo(
        model=record.name,
        version=entry.version,
        digest=entry.digest,
        created_at=entry.created_at,
        aliases=tuple(alias for alias, number in record.aliases.items() if number == entry.version),
        manifest=manifest,
    )


def _describe(model: str, version: int | None = None) -> None:
    span = trace.get_current_span()
    span.set_attribute(genai.MODEL, model)
    if version is not None:
        span.set_attribute(genai.MODEL_VERSION, version)
