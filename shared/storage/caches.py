"""Blobs of a store in the cache folders that a process uses."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from shared.errors import NotFound
from shared.storage.cache import BlobCache
from shared.storage.layout import blob_key


class Caches:
    """Copies of blobs, verified on arrival.

    Args:
        where: The store, for messages.
        limit: Bytes that each folder may hold; None for no limit.
        size: Bytes of a blob in the store, or None.
        read: A blob of the store in chunks.
        clone: The local file of a blob, for a store on this machine. A copy shares its data, where the file system
            can, until one of both is changed; copies that nothing uses are not kept.
    """

    def __init__(
        self,
        where: str,
        limit: int | None,
        *,
        size: Callable[[str], Awaitable[int | None]],
        read: Callable[[str], AsyncGenerator[bytes, None]],
        clone: Callable[[str], Path] | None = None,
    ) -> None:
        self._where, self._limit = where, limit
        self._size, self._read, self._clone = size, read, clone
        self._caches: dict[Path, BlobCache] = {}

    async def fetch(self, digest: str, folder: Path, *, fresh: bool = False) -> Path:
        """The copy of a blob in `folder`, made if need be; it stays at least as long as this process lives.

        With `fresh`, a copy that is there is dropped first. Raises `NotFound`, `CorruptFile`, `StorageFull`.
        """
        blob_key(digest)
        if folder not in self._caches:
            self._caches[folder] = BlobCache(folder, limit=self._limit, only_used=self._clone is not None)
        blobs = self._caches[folder]
        if fresh:
            await blobs.drop(digest)
        path = await blobs.hold(digest)
        if path is None:
            size = await self._size(digest)
            if size is None:
                raise NotFound(f"no blob {digest} in {self._where}; upload it first", param="digest")
            async with aclosing(self._read(digest)) as chunks:
                source = None if self._clone is None else self._clone(digest)
                path = await blobs.add(digest, size, chunks, clone=source)
        return path
