"""Removes blobs and manifests that no version refers to."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from services.registry.files import referenced_blobs
from services.registry.garbage import Garbage, find_garbage
from services.registry.records import Records
from shared.bus.port import KeyValue
from shared.contracts.file import UploadedFile
from shared.contracts.job import Job
from shared.contracts.manifest import Kind
from shared.contracts.registry import CatalogueRecord, Named
from shared.storage.port import ArtifactStore


async def collect(
    records: Mapping[Kind, Records],
    store: ArtifactStore,
    jobs: KeyValue,
    files: KeyValue,
    *,
    now: datetime,
    grace: timedelta,
    dry_run: bool,
    only: Collection[str] | None = None,
) -> Garbage:
    """Find garbage older than `grace` and, unless `dry_run`, remove it.

    Args:
        records: Of all kinds: a blob may belong to a version of any.
        store: What is searched.
        jobs: Their checkpoints and uploads are kept.
        files: Uploaded by clients; kept until they are deleted or expire.
        now: In UTC.
        grace: How old garbage must be.
        dry_run: Only find it.
        only: The blobs that may be garbage, and no manifest; None: all.

    Raises:
        CorruptFile: A version's manifest can't be read, so the blobs that it needs are unknown; nothing is removed.
    """
    blobs = await store.blob_stats()
    manifests = {
        (kind, name, version): stored
        for kind in records
        for (name, version), stored in (await store.manifest_stats(kind)).items()
    }
    if only is not None:
        blobs, manifests = {digest: stored for digest, stored in blobs.items() if digest in only}, {}
    catalogue = await _all(records)
    referenced = await referenced_blobs(store, catalogue) | await job_blobs(jobs) | await file_blobs(files, now)
    garbage = find_garbage(blobs, manifests, catalogue, referenced, now=now, grace=grace)
    if dry_run:
        return garbage
    # Listing took its time, and a new version may refer to an old blob: look once more at the names that changed.
    changed = {name: record for name, record in (await _all(records)).items() if record != catalogue.get(name)}
    referenced |= await referenced_blobs(store, changed) | await job_blobs(jobs) | await file_blobs(files, now)
    garbage = find_garbage(blobs, manifests, catalogue | changed, referenced, now=now, grace=grace)
    for kind, name, number in garbage.manifests:
        await store.delete_manifest(name, number, kind)
    for digest in garbage.blobs:
        await store.delete_blob(digest)
    return garbage


async def _all(records: Mapping[Kind, Records]) -> dict[Named, CatalogueRecord]:
    return {(kind, name): record for kind in records for name, record in (await records[kind].all()).items()}


async def job_blobs(jobs: KeyValue) -> set[str]:
    """The digests of what jobs that are not over may still read: checkpoints to go on from, and uploads."""
    records = [Job.decode(entry.value) for entry in await jobs.entries()]
    return {file.digest for job in records for file in job.needed_files}


async def file_blobs(files: KeyValue, now: datetime) -> set[str]:
    """The digests of the uploaded files that exist."""
    records = [UploadedFile.decode(entry.value) for entry in await files.entries()]
    return {file.digest for file in records if not file.expired(now)}
