"""The registry's endpoints, and its records in KV `LLMOS_MODELS` (key: model name)."""

from datetime import datetime

from pydantic import Field

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Digest, Manifest, Name

MODELS_BUCKET = "LLMOS_MODELS"
_EXAMPLE_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


class VersionEntry(Contract):
    """A version in its model's record; the manifest itself is in the store."""

    version: int = Field(ge=1)
    digest: Digest
    """SHA-256 of the manifest's bytes."""
    size: int
    created_at: datetime


class ModelRecord(Contract):
    """Everything mutable about a model. Changed by compare-and-set only."""

    name: Name
    next_version: int = Field(default=1, ge=1)
    """Never reused, even after the newest version was deleted."""
    versions: tuple[VersionEntry, ...] = ()
    aliases: dict[str, int] = Field(default_factory=dict)


class VersionInfo(Contract):
    """A version with its manifest."""

    model: Name
    version: int
    digest: Digest
    created_at: datetime
    aliases: tuple[str, ...] = ()
    manifest: Manifest

    @property
    def reference(self) -> str:
        """`name:3`."""
        return f"{self.model}:{self.version}"


class CreateVersion(Contract):
    """Make a version from blobs that are already uploaded.

    Idempotent: the same manifest again answers the version that exists.
    """

    model: Name
    manifest: Manifest
    aliases: tuple[Name, ...] = ()


class ResolveReference(Contract):
    """Which version a reference means now."""

    reference: str


class ModelList(Contract):
    """All models, by name."""

    models: tuple[ModelRecord, ...]


class SetAlias(Contract):
    """Point an alias at a version; `version` None removes it."""

    model: str
    alias: Name
    version: int | None = None


class DeleteVersion(Contract):
    """Delete one version (`name:3`), or a model with all its versions (`name`).

    Refused with `Conflict` while a deployment uses it.
    """

    reference: str


class CollectGarbage(Contract):
    """Remove blobs that no version refers to, and manifests that never became a version."""

    dry_run: bool = True
    """Report what would be removed, and remove nothing."""
    grace: float = Field(default=86_400.0, ge=0)
    """Seconds for which an upload is kept in any case: its version may not be created yet."""
    blobs: tuple[Digest, ...] | None = None
    """Look at these blobs only, and at no manifest; None: at all."""


class GarbageReport(Contract):
    """What was removed, or would be."""

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[str, ...] = ()
    """`model:number`."""
    size: int = 0
    """Bytes freed."""
    dry_run: bool


CREATE_VERSION = Endpoint("llmos.v1.registry.create_version", CreateVersion, VersionInfo)
RESOLVE = Endpoint("llmos.v1.registry.resolve", ResolveReference, VersionInfo)
LIST_MODELS = Endpoint("llmos.v1.registry.list_models", Empty, ModelList)
SET_ALIAS = Endpoint("llmos.v1.registry.set_alias", SetAlias, ModelRecord)
DELETE_VERSION = Endpoint("llmos.v1.registry.delete_version", DeleteVersion, Empty)
COLLECT_GARBAGE = Endpoint("llmos.v1.registry.collect_garbage", CollectGarbage, GarbageReport)

VersionEntry.EXAMPLE = VersionEntry(version=1, digest="cd" * 32, size=98_000_000, created_at=_EXAMPLE_TIME)
ModelRecord.EXAMPLE = ModelRecord(
    name="smollm2", next_version=2, versions=(VersionEntry.EXAMPLE,), aliases={"prod": 1}
)
assert Manifest.EXAMPLE is not None
VersionInfo.EXAMPLE = VersionInfo(
    model="smollm2", version=1, digest="cd" * 32, created_at=_EXAMPLE_TIME, manifest=Manifest.EXAMPLE
)
CreateVersion.EXAMPLE = CreateVersion(model="smollm2", manifest=Manifest.EXAMPLE, aliases=("prod",))
ResolveReference.EXAMPLE = ResolveReference(reference="smollm2@prod")
ModelList.EXAMPLE = ModelList(models=(ModelRecord.EXAMPLE,))
SetAlias.EXAMPLE = SetAlias(model="smollm2", alias="prod", version=1)
DeleteVersion.EXAMPLE = DeleteVersion(reference="smollm2:1")
CollectGarbage.EXAMPLE = CollectGarbage()
GarbageReport.EXAMPLE = GarbageReport(blobs=("ab" * 32,), manifests=("smollm2:2",), size=98_000_000, dry_run=True)
