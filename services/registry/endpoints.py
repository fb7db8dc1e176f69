"""The endpoints of one catalogue. All kinds have the same; only models are deployed."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from opentelemetry import trace

from services.registry import catalogue as rules
from services.registry.creation import create_version, of
from services.registry.files import read_manifest
from services.registry.records import Deed, Records
from shared.bus.port import KeyValue
from shared.bus.rpc import Handlers
from shared.contracts.base import Contract, Empty
from shared.contracts.manifest import FileList, Kind
from shared.contracts.registry import (
    AnyCatalogue,
    CatalogueRecord,
    DeleteVersion,
    ResolveReference,
    SetAlias,
    VersionEntry,
    VersionInfo,
)
from shared.contracts.scheduler import Deployment
from shared.errors import InvalidInput, LlmosError
from shared.storage.port import ArtifactStore
from shared.telemetry import genai

_ATTRIBUTES = {
    Kind.MODEL: (genai.MODEL, genai.MODEL_VERSION),
    Kind.DATASET: (genai.DATASET, genai.DATASET_VERSION),
    Kind.REPORT: (genai.REPORT, genai.REPORT_VERSION),
}

_log = structlog.get_logger("llmos.registry")


class CatalogueEndpoints:
    """The handlers of one kind.

    Args:
        catalogue: The kind with its contracts.
        records: Its records.
        store: For blobs and manifests.
        deployments: What must not be deleted.
        now: The time in UTC.
    """

    def __init__(
        self,
        catalogue: AnyCatalogue,
        records: Records,
        store: ArtifactStore,
        deployments: KeyValue,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._catalogue = catalogue
        self._kind = catalogue.kind
        self._records = records
        self._store = store
        self._deployments = deployments
        self._now = now

    def handlers(self) -> Handlers:
        """By endpoint."""
        ours = self._catalogue
        return {
            ours.create: self.create_version,
            ours.resolve: self.resolve,
            ours.list: self.list_names,
            ours.set_alias: self.set_alias,
            ours.delete: self.delete_version,
        }

    async def create_version(self, request: Any) -> VersionInfo:
        """Make a version from blobs that are in the store, or return the one with the same manifest."""
        self._describe(request.name)
        record, entry, _ = await create_version(
            self._records, self._store, request, request.manifest, kind=self._kind, now=self._now
        )
        self._describe(request.name, entry.version)
        return self._info(record, entry, request.manifest)

    async def resolve(self, request: ResolveReference) -> VersionInfo:
        """Which version a reference means now, with its manifest."""
        reference = rules.parse_reference(request.reference, self._kind)
        record = await self._find(reference.name)
        entry = rules.resolve(record, reference)
        self._describe(record.name, entry.version)
        manifest = await read_manifest(
            self._store, record.name, entry, kind=self._kind, contract=self._catalogue.manifest
        )
        return self._info(record, entry, manifest)

    async def list_names(self, _: Empty) -> Contract:
        """All records that have versions, by name."""
        records = await self._records.all()
        listed = tuple(records[name] for name in sorted(records) if records[name].versions)
        result: Contract = self._catalogue.list.response.model_validate({f"{self._kind}s": listed})
        return result

    async def set_alias(self, request: SetAlias) -> CatalogueRecord:
        """Point an alias at a version, or remove it."""
        name, alias, version = request.name, request.alias, request.version
        await self._find(name)
        self._describe(name, version)
        if version is None:
            removed = Deed("alias.removed", f"{name}@{alias}", of(self._kind))
            change = await self._records.change(
                name, lambda record: rules.remove_alias(record, alias), lambda _: removed
            )
        else:
            was_set = Deed("alias.set", f"{name}@{alias}", {"version": str(version), **of(self._kind)})
            change = await self._records.change(
                name, lambda record: rules.point(record, [alias], version), lambda _: was_set
            )
        return change.after

    async def delete_version(self, request: DeleteVersion) -> Empty:
        """Delete a version or a whole name, unless a deployment uses it. Its blobs are left to `collect_garbage`."""
        reference = rules.parse_reference(request.reference, self._kind)
        if reference.alias is not None:
            raise InvalidInput(
                f"{reference} is an alias: remove the alias, or delete a version by its number", param="reference"
            )
        name, version = reference.name, reference.version
        await self._find(name)
        self._describe(name, version)
        if self._kind is Kind.MODEL:
            deployments = [Deployment.decode(entry.value) for entry in await self._deployments.entries()]
            rules.require_unused(deployments, name, version)
        deleted = Deed("version.deleted" if version else f"{self._kind}.deleted", str(reference), of(self._kind))
        before, after = await self._records.change(
            name, lambda record: rules.delete(record, version), lambda _: deleted
        )
        await self._delete_manifests(name, [entry for entry in before.versions if entry not in after.versions])
        return Empty()

    async def _find(self, name: str) -> CatalogueRecord:
        """The record of a name that has versions; `NotFound` names those that exist."""
        if str(rules.parse_reference(name, self._kind).name) != name:
            raise InvalidInput(f"{name!r} is more than the name of a {self._kind}", param=self._kind)
        record = await self._records.get(name)
        known = {name: record} if record and record.versions else await self._records.all()
        return rules.require_name(known, name, self._kind)

    async def _delete_manifests(self, name: str, entries: list[VersionEntry]) -> None:
        """Without a record they are invisible; garbage collection deletes what can't be deleted now."""
        for entry in entries:
            try:
                await self._store.delete_manifest(name, entry.version, self._kind)
            except LlmosError as error:
                _log.warning(
                    "manifest.not_deleted",
                    version=f"{name}:{entry.version}",
                    error=error.message,
                    consequence="garbage collection deletes it",
                )

    def _info(self, record: CatalogueRecord, entry: VersionEntry, manifest: FileList) -> VersionInfo:
        result: VersionInfo = self._catalogue.resolve.response(
            name=record.name,
            version=entry.version,
            digest=entry.digest,
            created_at=entry.created_at,
            aliases=tuple(alias for alias, number in record.aliases.items() if number == entry.version),
            manifest=manifest,
        )
        return result

    def _describe(self, name: str, version: int | None = None) -> None:
        named, numbered = _ATTRIBUTES[self._kind]
        span = trace.get_current_span()
        span.set_attribute(named, name)
        if version is not None:
            span.set_attribute(numbered, version)
