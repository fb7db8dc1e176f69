"""The records of uploaded files, in KV `LLMOS_FILES`."""

from collections.abc import Callable
from datetime import UTC, datetime

from shared.audit.trail import Change, Trail
from shared.bus.port import Bus
from shared.contracts.file import FILES_BUCKET, UploadedFile
from shared.errors import NotFound

_SHOWN = 10


class FileRecords:
    """Reads and writes records. Keeps nothing: other gateways write to the bucket too.

    Args:
        bus: Has the bucket.
        trail: Takes the events.
        now: The time of day.
    """

    def __init__(self, bus: Bus, trail: Trail, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._kv = bus.kv(FILES_BUCKET)
        self._trail = trail
        self._now = now

    async def create(self, file: UploadedFile) -> None:
        """Write a new record."""
        change = Change(_record(file), None, file.encode())
        async with self._trail.change("file.created", file.id, change, file=file.name, purpose=file.purpose):
            await self._kv.create(file.id, file.encode())

    async def list(self) -> list[UploadedFile]:
        """Those that exist, the oldest first; removes the records of those that have expired."""
        files, now = [], self._now()
        for entry in await self._kv.entries():
            file = UploadedFile.decode(entry.value)
            if file.expired(now):
                await self._remove(file, "file.expired", by="")
            else:
                files.append(file)
        return sorted(files, key=lambda file: (file.created_at, file.id))

    async def get(self, file_id: str, param: str = "file_id") -> UploadedFile:
        """One file; raises `NotFound` that names the newest ones."""
        files = {file.id: file for file in await self.list()}
        found = files.get(file_id)
        if found is None:
            there = ", ".join(f"{file.id} ({file.name})" for file in list(files.values())[: -_SHOWN - 1 : -1])
            raise NotFound(f"there is no file {file_id[:80]!r}; the newest: {there or 'none'}", param=param)
        return found

    async def delete(self, file_id: str) -> None:
        """Remove a record; raises `NotFound`. The bytes are removed when garbage is collected."""
        await self._remove(await self.get(file_id), "file.deleted")

    async def _remove(self, file: UploadedFile, kind: str, *, by: str | None = None) -> None:
        change = Change(_record(file), file.encode(), None)
        async with self._trail.change(kind, file.id, change, by=by, file=file.name):
            await self._kv.delete(file.id)


def _record(file: UploadedFile) -> str:
    return f"{FILES_BUCKET}/{file.id}"
