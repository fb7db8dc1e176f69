"""A node's local copies of blobs, by digest; shared by all processes on the node.

A copy is verified on arrival. A process holds a blob (`flock`, shared) until it lets go or ends. Only a blob
without a holder or a link can be evicted, least recently used first. Arrivals take turns (one lock per folder), so
the limit holds and two replicas that start together download a blob once.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

import structlog

from shared.disk import readable_bytes
from shared.errors import StorageFull
from shared.storage.digest import require_digest
from shared.storage.incoming import IncomingFile, disk_error, make_folder, remove_abandoned
from shared.storage.port import CHUNK
from shared.storage.threads import Workers, batches

R = TypeVar("R")

_log = structlog.get_logger("llmos.storage")
_WORKERS = 4
_TURN_POLL = 0.05
"""Seconds between two looks at whether another arrival is over."""


class _Copy(NamedTuple):
    used_at: float
    size: int
    path: Path


class BlobCache:
    """Blobs under `folder`, at most `limit` bytes of them (None: no limit).

    With `only_used`, copies that no process uses are evicted with the next arrival: they are as easily made again.
    """

    def __init__(self, folder: Path, *, limit: int | None, only_used: bool = False) -> None:
        self._folder = folder
        self._blobs = folder / "blobs"
        self._incoming = folder / "incoming"
        self._limit = limit
        self._only_used = only_used
        self._held: dict[str, int] = {}
        self._held_lock = Lock()
        self._workers = Workers(_WORKERS)

    async def hold(self, digest: str) -> Path | None:
        """The copy of a blob, held from now on; None when there is none."""
        return await self._on_disk(f"opening blob {digest}", partial(self._hold, digest))

    def release(self, digest: str) -> None:
        """Let go of a blob: it may be evicted when it has no other holder."""
        with self._held_lock:
            fd = self._held.pop(digest, None)
        if fd is not None:
            os.close(fd)

    async def drop(self, digest: str) -> None:
        """Remove the copy of a blob, whoever holds it: it was found damaged."""
        self.release(digest)
        path = self._blobs / digest
        await self._on_disk(f"removing blob {digest}", partial(path.unlink, missing_ok=True))

    async def add(self, digest: str, size: int, chunks: AsyncIterator[bytes], *, clone: Path | None = None) -> Path:
        """Take in a blob of `size` bytes and hold it; a copy that arrived meanwhile is used instead.

        The blocks of the file `clone` are shared instead of copied, if the file system can do that.

        Raises:
            CorruptFile: The bytes do not hash to `digest`.
            StorageFull: The disk is full, or all that could be evicted is in use.
        """
        doing = f"caching blob {digest}"
        async with self._my_turn(doing):
            path = await self.hold(digest)
            if path is not None:
                return path
            await self._on_disk(doing, partial(self._free_space, size))
            file = await self._on_disk(doing, partial(IncomingFile, self._incoming), needed=size)
            try:
                if clone is None or not await self._on_disk(doing, partial(file.clone, clone)):
                    async with aclosing(batches(chunks, CHUNK)) as pieces:
                        async for data in pieces:
                            await self._on_disk(doing, partial(file.write, data), needed=size)
                require_digest(file.digest, digest, file.size)
                await self._on_disk(doing, partial(file.place, self._blobs / digest), needed=size)
            finally:
                await self._workers.run(file.discard)
            path = await self.hold(digest)
            assert path is not None, "no other process evicts while it is our turn"
            return path

    @asynccontextmanager
    async def _my_turn(self, doing: str) -> AsyncIterator[None]:
        fd = await self._on_disk(doing, self._open_turn)
        try:
            while not _try_lock(fd):  # noqa: ASYNC110  # the other may be another process
                await asyncio.sleep(_TURN_POLL)
            yield
        finally:
            os.close(fd)

    def _open_turn(self) -> int:
        make_folder(self._blobs)
        remove_abandoned(self._incoming)
        return os.open(self._folder / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _hold(self, digest: str) -> Path | None:
        path = self._blobs / digest
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(fd, fcntl.LOCK_SH)
        if not os.fstat(fd).st_nlink:  # evicted between the two calls
            os.close(fd)
            return None
        os.utime(path)
        with self._held_lock:
            before, self._held[digest] = self._held.get(digest), fd
        if before is not None:
            os.close(before)
        return path

    def _free_space(self, size: int) -> None:
        if self._limit is None and not self._only_used:
            return
        copies = sorted(self._copies())
        total = sum(copy.size for copy in copies)
        limit = total + size if self._limit is None else self._limit
        for copy in copies:
            if total + size <= limit and not self._only_used:
                return
            if _evict(copy.path):
                total -= copy.size
                _log.info("blob.evicted", digest=copy.path.name, size=copy.size)
        if total + size > limit:
            raise StorageFull(
                f"the cache {self._folder} may hold {readable_bytes(limit)}: {readable_bytes(size)} more "
                f"needed, {readable_bytes(total)} in use by running replicas; raise the limit or stop a replica"
            )

    def _copies(self) -> list[_Copy]:
        return [
            _Copy(used_at=stat.st_mtime, size=stat.st_size, path=path)
            for path in self._blobs.iterdir()
            for stat in [path.stat()]
        ]

    async def _on_disk(self, doing: str, call: Callable[[], R], *, needed: int | None = None) -> R:
        try:
            return await self._workers.run(call)
        except OSError as error:
            raise disk_error(error, self._folder, doing, needed) from error


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _evict(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A copy with a second link is part of a version's folder: to remove it here would free nothing.
        if free := _try_lock(fd) and os.fstat(fd).st_nlink == 1:
            path.unlink()
        return free
    finally:
        os.close(fd)
