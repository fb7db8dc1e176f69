"""Removes blobs and manifests that no version refers to."""

from collections.abc import Collection
from datetime import datetime, timedelta

from services.registry.files import referenced_blobs
from services.registry.garbage import Garbage, find_garbage
from services.registry.records import ModelRecords
from shared.storage.port import ArtifactStore


async def collect(
    records: ModelRecords,
    store: ArtifactStore,
    *,
    now: datetime,
    grace: timedelta,
    dry_run: bool,
    only: Collection[str] | None = None,
) -> Garbage:
    """Find garbage older than `grace` and, unless `dry_run`, remove it.

    Args:
        records: The catalogue.
        store: Where it is looked for.
        now: In UTC.
        grace: How old garbage must be.
        dry_run: Whether nothing is removed.
        only: The blobs that may be garbage, and no manifest; None: all.

    Raises:
        CorruptFile: A version's manifest can't be read, so the blobs that it needs are unknown; nothing is removed.
    """
    blobs, manifests = await store.blob_stats(), await store.manifest_stats()
    if only is not None:
        blobs, manifests = {digest: stored for digest, stored in blobs.items() if digest in only}, {}
    models = await records.all()
    referenced = await referenced_blobs(store, models)
    garbage = find_garbage(blobs, manifests, models, referenced, now=now, grace=grace)
    if dry_run:
        return garbage
    # Listing took its time, and a new version may refer to an old blob: look once more at the models that changed.
    changed = {name: record for name, record in (await records.all()).items() if record != models.get(name)}
    referenced |= await referenced_blobs(store, changed)
    garbage = find_garbage(blobs, manifests, models | changed, referenced, now=now, grace=grace)
    for model, number in garbage.manifests:
        await store.delete_manifest(model, number)
    for digest in garbage.blobs:
        await store.delete_blob(digest)
    return garbage
