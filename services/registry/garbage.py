"""Blobs and manifests that no version refers to. Pure: listings in, names out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.registry import ModelRecord
from shared.storage.port import Stored


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be removed."""

    blobs: tuple[str, ...]
    """Digests."""
    manifests: tuple[tuple[str, int], ...]
    """(model, version)."""
    size: int
    """Bytes of both."""


def find_garbage(
    blobs: Mapping[str, Stored],
    manifests: Mapping[tuple[str, int], Stored],
    models: Mapping[str, ModelRecord],
    referenced: Collection[str],
    *,
    now: datetime,
    grace: timedelta,
) -> Garbage:
    """Blobs that no version refers to, and manifests of numbers that are no version, both older than `grace`.

    The grace is for what is being made: a blob is there before its manifest, a manifest before its version.
    A manifest whose model has no record is not garbage: the catalogue was lost and is made again from such manifests.

    Args:
        blobs: All in the store.
        manifests: All in the store.
        models: The catalogue.
        referenced: Digests of the files of all versions in `models`.
        now: In UTC.
        grace: How old garbage must be.
    """
    versions = {(name, entry.version) for name, record in models.items() for entry in record.versions}
    old_blobs = {
        digest: stored
        for digest, stored in blobs.items()
        if digest not in referenced and now - stored.modified > grace
    }
    old_manifests = {
        name: stored
        for name, stored in manifests.items()
        if name not in versions and name[0] in models and now - stored.modified > grace
    }
    size = sum(stored.size for stored in (*old_blobs.values(), *old_manifests.values()))
    return Garbage(blobs=tuple(sorted(old_blobs)), manifests=tuple(sorted(old_manifests)), size=size)
