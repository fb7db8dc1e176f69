"""The port of the artifact store; a directory and S3 stand behind it.

Layout under the root (or bucket): `blobs/sha256/<aa>/<digest>`, `manifests/<model>/<version>.json`,
`datasets/<dataset>/<version>.json`, `reports/<report>/<version>.json`. All are immutable: what is written once is
never changed. Beside them are documents, which may be replaced: `system.json` and `snapshots/<name>.json.gz`. A
half-written object is never visible.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.contracts.manifest import Kind

CHUNK = 1 << 20
"""Bytes read and written at a time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a listing shows it."""

    size: int
    """Bytes."""
    modified: datetime
    """When it became visible, in UTC."""


class ArtifactStore(Protocol):
    """Where model files live.

    Every method raises `Unavailable` when the store cannot be reached, and `InvalidInput` for a digest, name or
    version that cannot exist.
    """

    async def blob_size(self, digest: str) -> int | None:
        """Bytes of a blob, or None when it is not there."""

    async def holds_blob(self, digest: str) -> bool:
        """Whether a blob is there and its bytes hash to its digest: it is read, unless it was checked before."""

    async def put_blob(self, digest: str, chunks: AsyncIterator[bytes], *, size: int | None = None) -> int:
        """Store a blob and return its size.

        Raises `CorruptFile` when the bytes do not hash to `digest`, `StorageFull` when there is no space; nothing
        stays behind then. A blob that is there with its digest is not written again, and its `chunks` are not read;
        one that was changed is replaced.
        With `size`, the bytes to come, a store without space for them raises before it takes the first.
        """

    async def put_new(self, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """Store a blob whose digest nobody knows yet; returns its digest and size.

        Raises what `chunks` raises, and `StorageFull`; nothing stays behind then. A blob that exists already becomes
        as young as a new one.
        """

    def read_blob(self, digest: str) -> AsyncIterator[bytes]:
        """The blob in chunks; raises `NotFound`, or `CorruptFile` before the last one if they are not its bytes."""

    async def fetch_blob(self, digest: str, cache: Path, *, fresh: bool = False) -> Path:
        """A local file with the blob's content, verified into `cache` unless it is there.

        With `fresh`, what is there is dropped first: it was found damaged. Raises `NotFound`, `StorageFull`, or
        `CorruptFile` if the bytes in the store are not the blob's.
        """

    async def delete_blob(self, digest: str) -> None:
        """Remove a blob; a missing one is no error."""

    async def blobs(self) -> list[str]:
        """The digests of all blobs, sorted."""

    async def blob_stats(self) -> dict[str, Stored]:
        """All blobs by digest."""

    async def put_manifest(self, name: str, version: int, data: bytes, kind: Kind = Kind.MODEL) -> None:
        """Write a manifest; the same bytes again are no error, other bytes are `Conflict`."""

    async def get_manifest(self, name: str, version: int, kind: Kind = Kind.MODEL) -> bytes | None:
        """A manifest's bytes, or None."""

    async def delete_manifest(self, name: str, version: int, kind: Kind = Kind.MODEL) -> None:
        """Remove a manifest; a missing one is no error."""

    async def manifests(self, kind: Kind = Kind.MODEL) -> list[tuple[str, int]]:
        """(name, version) of all manifests of a kind, sorted."""

    async def manifest_stats(self, kind: Kind = Kind.MODEL) -> dict[tuple[str, int], Stored]:
        """All manifests of a kind by (name, version)."""

    async def put_document(self, name: str, data: bytes) -> None:
        """Write a small document in place of what is there; raises `StorageFull`."""

    async def get_document(self, name: str) -> bytes | None:
        """A document's bytes, or None."""

    async def delete_document(self, name: str) -> None:
        """Remove a document; a missing one is no error."""

    async def snapshots(self) -> dict[str, Stored]:
        """The documents in `snapshots/`, by name."""

    async def ready(self) -> str | None:
        """None when it can be written to, else the reason."""
