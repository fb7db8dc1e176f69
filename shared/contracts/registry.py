"""The registry's endpoints, and its records: one KV bucket for each kind (key: name)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import Field

from shared.contracts.base import Contract, Empty, Endpoint, Request, Response
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import Digest, FileList, Kind, Manifest, Name
from shared.contracts.report import ReportManifest

MODELS_BUCKET = "LLMOS_MODELS"
DATASETS_BUCKET = "LLMOS_DATASETS"
REPORTS_BUCKET = "LLMOS_REPORTS"
_EXAMPLE_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


Named = tuple[Kind, str]
"""A name and what it is the name of."""


class VersionEntry(Contract):
    """A version in its record; the manifest itself is in the store."""

    version: int = Field(ge=1)
    digest: Digest
    """SHA-256 of the manifest's bytes."""
    size: int
    created_at: datetime


class CatalogueRecord(Contract):
    """Everything mutable about a name: its versions and aliases. Changed by compare-and-set only."""

    name: Name
    next_version: int = Field(default=1, ge=1)
    """Never reused, even after the newest version was deleted."""
    versions: tuple[VersionEntry, ...] = ()
    aliases: dict[str, int] = Field(default_factory=dict)


class VersionInfo(Contract):
    """A version, without its manifest."""

    name: Name
    version: int
    digest: Digest
    created_at: datetime
    aliases: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """`name:3`."""
        return f"{self.name}:{self.version}"


class ModelVersion(VersionInfo):
    """A version of a model."""

    manifest: Manifest


class DatasetVersion(VersionInfo):
    """A version of a dataset."""

    manifest: DatasetManifest


class ReportVersion(VersionInfo):
    """A version of a report."""

    manifest: ReportManifest


class CreateVersion(Contract):
    """Make a version from blobs that are already uploaded; each kind adds its manifest.

    Idempotent: the same manifest again answers the version that exists.
    """

    name: Name
    aliases: tuple[Name, ...] = ()


class CreateModelVersion(CreateVersion):
    """Make a version of a model."""

    manifest: Manifest


class CreateDatasetVersion(CreateVersion):
    """Make a version of a dataset."""

    manifest: DatasetManifest


class CreateReportVersion(CreateVersion):
    """Make a version of a report."""

    manifest: ReportManifest


class ResolveReference(Contract):
    """Which version a reference means now."""

    reference: str


class ModelList(Contract):
    """All models, by name."""

    models: tuple[CatalogueRecord, ...]


class DatasetList(Contract):
    """All datasets, by name."""

    datasets: tuple[CatalogueRecord, ...]


class ReportList(Contract):
    """All reports, by name."""

    reports: tuple[CatalogueRecord, ...]


class SetAlias(Contract):
    """Point an alias at a version; `version` None removes it."""

    name: str
    alias: Name
    version: int | None = None


class DeleteVersion(Contract):
    """Delete one version (`name:3`), or a name with all its versions (`name`).

    Refused with `Conflict` while a deployment uses it.
    """

    reference: str


MAX_GRACE_S = 10 * 365 * 86_400.0


class CollectGarbage(Contract):
    """Remove blobs that no version refers to, and manifests that never became a version."""

    dry_run: bool = True
    """Report what would be removed, and remove nothing."""
    grace: float = Field(default=86_400.0, ge=0, le=MAX_GRACE_S)
    """Seconds for which an upload is kept in any case: its version may not be created yet."""
    blobs: tuple[Digest, ...] | None = None
    """Look at these blobs only, and at no manifest; None: at all."""


class GarbageReport(Contract):
    """What was removed, or would be."""

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[str, ...] = ()
    """`name:number`, with the kind in front where it is no model: `dataset support:2`."""
    size: int = 0
    """Bytes freed."""
    dry_run: bool


ManifestT = TypeVar("ManifestT", bound=FileList)
CreateT = TypeVar("CreateT", bound=CreateVersion)
InfoT = TypeVar("InfoT", bound=VersionInfo)
ListT = TypeVar("ListT", bound=Contract)


@dataclass(frozen=True, slots=True)
class Catalogue(Generic[ManifestT, CreateT, InfoT, ListT]):
    """One kind's bucket and endpoints."""

    kind: Kind
    manifest: type[ManifestT]
    bucket: str
    create: Endpoint[CreateT, InfoT]
    resolve: Endpoint[ResolveReference, InfoT]
    list: Endpoint[Empty, ListT]
    set_alias: Endpoint[SetAlias, CatalogueRecord]
    delete: Endpoint[DeleteVersion, Empty]


AnyCatalogue = Catalogue[Any, Any, Any, Any]


def _endpoint(verb: str, request: type[Request], response: type[Response]) -> Endpoint[Request, Response]:
    return Endpoint(f"llmos.v1.registry.{verb}", request, response)


MODELS = Catalogue(
    Kind.MODEL,
    Manifest,
    MODELS_BUCKET,
    create=_endpoint("create_model_version", CreateModelVersion, ModelVersion),
    resolve=_endpoint("resolve_model", ResolveReference, ModelVersion),
    list=_endpoint("list_models", Empty, ModelList),
    set_alias=_endpoint("set_model_alias", SetAlias, CatalogueRecord),
    delete=_endpoint("delete_model", DeleteVersion, Empty),
)
DATASETS = Catalogue(
    Kind.DATASET,
    DatasetManifest,
    DATASETS_BUCKET,
    create=_endpoint("create_dataset_version", CreateDatasetVersion, DatasetVersion),
    resolve=_endpoint("resolve_dataset", ResolveReference, DatasetVersion),
    list=_endpoint("list_datasets", Empty, DatasetList),
    set_alias=_endpoint("set_dataset_alias", SetAlias, CatalogueRecord),
    delete=_endpoint("delete_dataset", DeleteVersion, Empty),
)
REPORTS = Catalogue(
    Kind.REPORT,
    ReportManifest,
    REPORTS_BUCKET,
    create=_endpoint("create_report_version", CreateReportVersion, ReportVersion),
    resolve=_endpoint("resolve_report", ResolveReference, ReportVersion),
    list=_endpoint("list_reports", Empty, ReportList),
    set_alias=_endpoint("set_report_alias", SetAlias, CatalogueRecord),
    delete=_endpoint("delete_report", DeleteVersion, Empty),
)
CATALOGUES = (MODELS, DATASETS, REPORTS)
COLLECT_GARBAGE = Endpoint("llmos.v1.registry.collect_garbage", CollectGarbage, GarbageReport)

VersionEntry.EXAMPLE = VersionEntry(version=1, digest="cd" * 32, size=98_000_000, created_at=_EXAMPLE_TIME)
CatalogueRecord.EXAMPLE = CatalogueRecord(
    name="smollm2", next_version=2, versions=(VersionEntry.EXAMPLE,), aliases={"prod": 1}
)
_DATASET = CatalogueRecord(name="support", next_version=2, versions=(VersionEntry.EXAMPLE,))
_REPORT = CatalogueRecord(name="helper", next_version=2, versions=(VersionEntry.EXAMPLE,))
assert Manifest.EXAMPLE is not None
assert DatasetManifest.EXAMPLE is not None
assert ReportManifest.EXAMPLE is not None
VersionInfo.EXAMPLE = VersionInfo(name="smollm2", version=1, digest="cd" * 32, created_at=_EXAMPLE_TIME)
ModelVersion.EXAMPLE = ModelVersion(
    name="smollm2", version=1, digest="cd" * 32, created_at=_EXAMPLE_TIME, manifest=Manifest.EXAMPLE
)
DatasetVersion.EXAMPLE = DatasetVersion(
    name="support", version=1, digest="cd" * 32, created_at=_EXAMPLE_TIME, manifest=DatasetManifest.EXAMPLE
)
ReportVersion.EXAMPLE = ReportVersion(
    name="helper", version=1, digest="cd" * 32, created_at=_EXAMPLE_TIME, manifest=ReportManifest.EXAMPLE
)
CreateVersion.EXAMPLE = CreateVersion(name="smollm2", aliases=("prod",))
CreateModelVersion.EXAMPLE = CreateModelVersion(name="smollm2", manifest=Manifest.EXAMPLE, aliases=("prod",))
CreateDatasetVersion.EXAMPLE = CreateDatasetVersion(name="support", manifest=DatasetManifest.EXAMPLE)
CreateReportVersion.EXAMPLE = CreateReportVersion(name="helper", manifest=ReportManifest.EXAMPLE)
ResolveReference.EXAMPLE = ResolveReference(reference="smollm2@prod")
ModelList.EXAMPLE = ModelList(models=(CatalogueRecord.EXAMPLE,))
DatasetList.EXAMPLE = DatasetList(datasets=(_DATASET,))
ReportList.EXAMPLE = ReportList(reports=(_REPORT,))
SetAlias.EXAMPLE = SetAlias(name="smollm2", alias="prod", version=1)
DeleteVersion.EXAMPLE = DeleteVersion(reference="smollm2:1")
CollectGarbage.EXAMPLE = CollectGarbage()
GarbageReport.EXAMPLE = GarbageReport(blobs=("ab" * 32,), manifests=("smollm2:2",), size=98_000_000, dry_run=True)
