"""Checks of the store's blobs: one when asked, and all of them in the background."""

from collections.abc import AsyncIterator

from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.manifest import FileList, Kind
from shared.contracts.scrub import SCRUBS_BUCKET, CheckBlob, CheckedBlob, Scrub, ScrubList, scrub_key
from shared.storage.check import check_blob
from shared.storage.port import ArtifactStore


class StoreBlobs:
    """The blobs of the store, for `shared.service.scrub`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def digests(self) -> list[str]:
        """See `Blobs`."""
        return await self._store.blobs()

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """See `Blobs`."""
        return self._store.read_blob(digest)

    async def files(self, digest: str) -> tuple[str, ...]:
        """See `Blobs`. Reads all manifests: for the rare case."""
        found = []
        for kind in Kind:
            for name, number in await self._store.manifests(kind):
                data = await self._store.get_manifest(name, number, kind)
                files = FileList.decode(data).files if data else ()
                prefix = "" if kind is Kind.MODEL else f"{kind} "
                found += [f"{prefix}{name}:{number} {file.path}" for file in files if file.digest == digest]
        return tuple(found)


class BlobChecks:
    """The endpoints.

    Args:
        bus: For the records of scrubs.
        store: Whose blobs are read.
    """

    def __init__(self, bus: Bus, store: ArtifactStore) -> None:
        self._kv = bus.kv(SCRUBS_BUCKET)
        self._store = store

    async def check_blob(self, request: CheckBlob) -> CheckedBlob:
        """Read one blob as fast as it goes. Nothing that was checked before counts."""
        return await check_blob(self._store.read_blob(request.digest))

    async def list_scrubs(self, _: Empty) -> ScrubList:
        """How far all scrubs are, and what they found."""
        found = {entry.key: Scrub.decode(entry.value) for entry in await self._kv.entries()}
        store = found.pop(scrub_key(None), None)
        return ScrubList(scrubs=((store,) if store else ()) + tuple(found[key] for key in sorted(found)))
