"""Blobs and manifests that no version refers to. Pure: listings in, names out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.manifest import Kind
from shared.contracts.registry import CatalogueRecord, Named
from shared.storage.port import Stored

Numbered = tuple[Kind, str, int]
"""A manifest: its kind, its name and its number."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be removed."""

    blobs: tuple[str, ...]
    """Digests."""
    manifests: tuple[Numbered, ...]
    size: int
    """Bytes of both."""


def find_garbage(
    blobs: Mapping[str, Stored],
    manifests: Mapping[Numbered, Stored],
    catalogue: Mapping[Named, CatalogueRecord],
    referenced: Collection[str],
    *,
    now: datetime,
    grace: timedelta,
) -> Garbage:
    """Blobs that no version refers to, and manifests of numbers that are no version, both older than `grace`.

    The grace is for what is being made: a blob is there before its manifest, a manifest before its version.
    A manifest whose name has no record is not garbage: the catalogue was lost and is made again from such manifests.

    Args:
        blobs: All in the store.
        manifests: All in the store.
        catalogue: The records of all kinds.
        referenced: Digests of the files of all versions in `catalogue`.
        now: In UTC.
        grace: How old garbage must be.
    """
    versions = {(*name, entry.version) for name, record in catalogue.items() for entry in record.versions}
    old_blobs = {
        digest: stored
        for digest, stored in blobs.items()
        if digest not in referenced and now - stored.modified > grace
    }
    old_manifests = {
        key: stored
        for key, stored in manifests.items()
        if key not in versions and key[:2] in catalogue and now - stored.modified > grace
    }
    size = sum(stored.size for stored in (*old_blobs.values(), *old_manifests.values()))
    return Garbage(blobs=tuple(sorted(old_blobs)), manifests=tuple(sorted(old_manifests)), size=size)
