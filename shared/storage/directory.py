"""A store in a directory: the embedded default.

Several processes may use it at once. A file is written under `incoming/`, synced and then renamed, so that what is
visible is whole even after a power cut.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from shared.contracts.manifest import Kind
from shared.disk import DiskUse, free_bytes, readable_bytes, reserve, total_bytes
from shared.errors import Conflict, NotFound, StorageFull
from shared.storage.caches import Caches
from shared.storage.digest import file_digest, require_digest, verified
from shared.storage.incoming import IncomingFile, disk_error, make_folder, remove_abandoned
from shared.storage.layout import (
    BLOBS,
    MANIFESTS,
    SNAPSHOTS,
    blob_key,
    document_key,
    manifest_key,
    parse_blob_key,
    parse_manifest_key,
)
from shared.storage.port import CHUNK, Stored
from shared.storage.threads import Workers, batches

R = TypeVar("R")

_log = structlog.get_logger("llmos.storage")
_WORKERS = 8


class DirectoryStore:
    """`ArtifactStore` under `root`, which is made when it is missing; raises `Unavailable` when it can't be.

    `fetch_blob` keeps at most `cache_limit` bytes in a cache folder; None: no limit.
    """

    def __init__(self, root: Path, *, cache_limit: int | None = None) -> None:
        self._root = root
        self._verified: dict[str, _State] = {}
        """Blobs whose digest was checked, in the state in which that was done."""
        self._caches = Caches(
            str(root), cache_limit, size=self.blob_size, read=self._read, clone=lambda d: root / blob_key(d)
        )
        self._incoming = root / "incoming"
        self._workers = Workers(_WORKERS)
        try:
            make_folder(self._incoming)
            for path in remove_abandoned(self._incoming):
                _log.info("upload.abandoned", path=str(path))
        except OSError as error:
            raise disk_error(error, root, "opening the store") from error

    async def blob_size(self, digest: str) -> int | None:
        """See `ArtifactStore`."""
        return await self._on_disk(f"looking for blob {digest}", partial(_size, self._root / blob_key(digest)))

    async def put_blob(self, digest: str, chunks: AsyncIterator[bytes], *, size: int | None = None) -> int:
        """See `ArtifactStore`."""
        target = self._root / blob_key(digest)
        doing = f"storing blob {digest}"
        existing = await self._on_disk(doing, partial(_size, target))
        if existing is not None and await self.holds_blob(digest):
            return existing
        await self._on_disk(doing, partial(self._require_space, size or 0, doing))
        async with self._received(chunks, doing, size or 0) as file:
            require_digest(file.digest, digest, file.size)
            await self._on_disk(doing, partial(file.place, target), needed=file.size)
        return file.size

    async def holds_blob(self, digest: str) -> bool:
        """See `ArtifactStore`. A file that was not touched since the last time is not read again."""
        path = self._root / blob_key(digest)
        return await self._on_disk(f"checking blob {digest}", partial(self._is_right, digest, path))

    async def put_new(self, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """See `ArtifactStore`."""
        doing = "storing a new blob"
        async with self._received(chunks, doing, 0) as file:
            digest = file.digest
            await self._on_disk(doing, partial(file.place, self._root / blob_key(digest)), needed=file.size)
        return digest, file.size

    def read_blob(self, digest: str) -> AsyncGenerator[bytes, None]:
        """See `ArtifactStore`."""
        return verified(digest, self._read(digest))

    async def _read(self, digest: str) -> AsyncGenerator[bytes, None]:
        doing = f"reading blob {digest}"
        path = self._root / blob_key(digest)
        if await self.blob_size(digest) is None:
            raise NotFound(f"no blob {digest} in {self._root}; upload it first", param="digest")
        with await self._on_disk(doing, partial(_open, path)) as file:
            while data := await self._on_disk(doing, partial(file.read, CHUNK)):
                yield data

    async def fetch_blob(self, digest: str, cache: Path, *, fresh: bool = False) -> Path:
        """See `ArtifactStore`. A copy: no process that reads a version can change what is stored."""
        return await self._caches.fetch(digest, cache, fresh=fresh)

    async def delete_blob(self, digest: str) -> None:
        """See `ArtifactStore`."""
        path = self._root / blob_key(digest)
        await self._on_disk(f"deleting blob {digest}", partial(path.unlink, missing_ok=True))

    async def blobs(self) -> list[str]:
        """See `ArtifactStore`."""
        return sorted(await self.blob_stats())

    async def blob_stats(self) -> dict[str, Stored]:
        """See `ArtifactStore`."""
        found = await self._on_disk("listing blobs", partial(self._list, BLOBS))
        return {digest: stored for key, stored in found.items() if (digest := parse_blob_key(key)) is not None}

    async def put_manifest(self, name: str, version: int, data: bytes, kind: Kind = Kind.MODEL) -> None:
        """See `ArtifactStore`."""
        path = self._root / manifest_key(name, version, kind)
        doing = f"writing the manifest of {kind} {name}:{version}"
        if not await self._on_disk(doing, partial(self._write_new, path, data), needed=len(data)):
            there = await self.get_manifest(name, version, kind)
            if there != data:
                raise Conflict(f"{kind} {name}:{version} has another manifest already; versions never change")

    async def get_manifest(self, name: str, version: int, kind: Kind = Kind.MODEL) -> bytes | None:
        """See `ArtifactStore`."""
        path = self._root / manifest_key(name, version, kind)
        return await self._on_disk(f"reading the manifest of {kind} {name}:{version}", partial(_read, path))

    async def delete_manifest(self, name: str, version: int, kind: Kind = Kind.MODEL) -> None:
        """See `ArtifactStore`."""
        path = self._root / manifest_key(name, version, kind)
        await self._on_disk(
            f"deleting the manifest of {kind} {name}:{version}", partial(path.unlink, missing_ok=True)
        )

    async def manifests(self, kind: Kind = Kind.MODEL) -> list[tuple[str, int]]:
        """See `ArtifactStore`."""
        return sorted(await self.manifest_stats(kind))

    async def manifest_stats(self, kind: Kind = Kind.MODEL) -> dict[tuple[str, int], Stored]:
        """See `ArtifactStore`."""
        found = await self._on_disk(f"listing manifests of {kind}s", partial(self._list, MANIFESTS[kind]))
        return {one: stored for key, stored in found.items() if (one := parse_manifest_key(key, kind)) is not None}

    async def put_document(self, name: str, data: bytes) -> None:
        """See `ArtifactStore`."""
        path = self._root / document_key(name)
        await self._on_disk(f"writing {name}", partial(self._replace, path, data), needed=len(data))

    async def get_document(self, name: str) -> bytes | None:
        """See `ArtifactStore`."""
        return await self._on_disk(f"reading {name}", partial(_read, self._root / document_key(name)))

    async def delete_document(self, name: str) -> None:
        """See `ArtifactStore`."""
        path = self._root / document_key(name)
        await self._on_disk(f"deleting {name}", partial(path.unlink, missing_ok=True))

    async def snapshots(self) -> dict[str, Stored]:
        """See `ArtifactStore`."""
        return await self._on_disk("listing snapshots", partial(self._list, SNAPSHOTS))

    async def ready(self) -> str | None:
        """See `ArtifactStore`: writes one byte and removes it."""
        try:
            await self._workers.run(self._try_to_write)
        except OSError as error:
            return str(disk_error(error, self._root, "writing to the store"))
        return None

    @asynccontextmanager
    async def _received(
        self, chunks: AsyncIterator[bytes], doing: str, announced: int
    ) -> AsyncGenerator[IncomingFile, None]:
        """All of `chunks` in an incoming file."""
        file = await self._on_disk(doing, partial(IncomingFile, self._incoming))
        try:
            async with aclosing(batches(chunks, CHUNK)) as pieces:
                async for data in pieces:
                    needed = max(announced, file.size + len(data))
                    await self._on_disk(doing, partial(self._append, file, data, doing), needed=needed)
            yield file
        finally:
            await self._workers.run(file.discard)

    async def _on_disk(self, doing: str, call: Callable[[], R], *, needed: int | None = None) -> R:
        try:
            return await self._workers.run(call)
        except OSError as error:
            raise disk_error(error, self._root, doing, needed) from error

    def _is_right(self, digest: str, path: Path) -> bool:
        state = _state(path)
        if state is None:
            return False
        if self._verified.get(digest) != state:
            if file_digest(path) != digest:
                return False
            self._verified[digest] = state
        return True

    def _require_space(self, size: int, doing: str) -> None:
        """Raise `StorageFull` unless the reserve for changes of the control state is left after `size` more bytes."""
        free, least = free_bytes(self._root), reserve(DiskUse.IMPORTS, total_bytes(self._root))
        if free - size < least:
            raise StorageFull(
                f"{doing} found no room in {self._root}: {readable_bytes(size)} needed, {readable_bytes(free)} free,"
                f" of which {readable_bytes(least)} are for changes; free some, or give another folder"
            )

    def _append(self, file: IncomingFile, data: bytes, doing: str) -> None:
        self._require_space(len(data), doing)
        file.write(data)

    def _write_new(self, path: Path, data: bytes) -> bool:
        with IncomingFile(self._incoming) as file:
            file.write(data)
            return file.link(path)

    def _replace(self, path: Path, data: bytes) -> None:
        with IncomingFile(self._incoming) as file:
            file.write(data)
            file.place(path)

    def _try_to_write(self) -> None:
        with IncomingFile(self._incoming) as file:
            file.write(b"\0")

    def _list(self, folder: str) -> dict[str, Stored]:
        found = {}
        for path in (self._root / folder).rglob("*"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # deleted meanwhile
            modified = datetime.fromtimestamp(stat.st_mtime, UTC)
            found[path.relative_to(self._root).as_posix()] = Stored(size=stat.st_size, modified=modified)
        return found


_State = tuple[int, int, int]
"""Number of the file, its size, and the time of the last change, which no program can set."""


def _state(path: Path) -> _State | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_ctime_ns


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
