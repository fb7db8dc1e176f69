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
        clone: The local file of a blob, whose data a copy may share until one of both is changed; None: it has none.
    """

    def __init__(
        self,
        where: str,
        limit: int | None,
        *,
        size: Callable[[str], Awaitable[int | None]],
        read: Callable[[str], AsyncGenerator[bytes, None]],
        clone: Callable[[str], Path | None] = lambda _: None,
    ) -> None:
        self._where, self._limit = where, limit
        self._size, self._read, self._clone = size, read, clone
        self._caches: dict[Path, BlobCache] = {}

    async def fetch(self, digest: str, folder: Path, *, fresh: bool = False) -> Path:
        """The copy of a blob in `folder`, made if need be; it stays at least as long as this process lives.

        With `fresh`, a copy that is there is dropped first. Raises `NotFound`, `CorruptFile`, `StorageFull`.
        """
        blob_key(digest)
        blobs = self._caches.setdefault(folder, BlobCache(folder, limit=self._limit))
        if fresh:
            await blobs.drop(digest)
        path = await blobs.hold(digest)
        if path is None:
            size = await self._size(digest)
            if size is None:
                raise NotFound(f"no blob {digest} in {self._where}; upload it first", param="digest")
            async with aclosing(self._read(digest)) as chunks:
                path = await blobs.add(digest, size, chunks, clone=self._clone(digest))
        return path
