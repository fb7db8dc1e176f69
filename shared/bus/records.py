"""A local copy of a bucket, fed by a watch and written by compare-and-set: reads go on while the bus is down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog
from pydantic import ValidationError

from shared.bus.port import KeyValue, KvEvent, KvOperation
from shared.bus.tasks import end
from shared.contracts.base import Contract
from shared.errors import Conflict, LlmosError

RETRY_S = 0.5

_log = structlog.get_logger("llmos.bus")

Record = TypeVar("Record", bound=Contract)


@dataclass(slots=True)
class Records(Generic[Record]):
    """What a bucket holds, by key.

    A record that does not parse is left out and logged: another program wrote it, and it must not stop the rest.
    """

    kv: KeyValue
    contract: type[Record]
    on_change: Callable[[], None] = lambda: None
    """Called after every change, and when all is known."""
    _values: dict[str, Record] = field(default_factory=dict)
    _stored: dict[str, bytes] = field(default_factory=dict)
    _revisions: dict[str, int] = field(default_factory=dict)
    """The newest known of each key, also of deleted keys: older events are ignored."""

    _synced: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def synced(self) -> bool:
        """Whether all that the bucket holds is known."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once all that the bucket holds is known."""
        await self._synced.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the bucket while the block runs."""
        following = asyncio.create_task(self.follow(), name=f"follow {self.contract.__name__} records")
        try:
            yield
        finally:
            await end(following)

    async def follow(self) -> None:
        """Watch the bucket until cancelled."""
        async with self.kv.watch() as events:
            synced_once = False
            async for event in events:
                if event.operation is not KvOperation.SYNCED:
                    self.apply(event)
                elif synced_once:
                    await self._read_all()
                else:
                    synced_once = True
                    self._synced.set()
                self.on_change()

    def apply(self, event: KvEvent) -> None:
        """Take in one change."""
        if event.revision < self._revisions.get(event.key, 0):
            return
        self._revisions[event.key] = event.revision
        self._values.pop(event.key, None)
        self._stored.pop(event.key, None)
        if event.operation is KvOperation.PUT:
            self._stored[event.key] = event.value
            try:
                self._values[event.key] = self.contract.decode(event.value)
            except ValidationError as error:
                _log.error("record.unreadable", key=event.key, kind=self.contract.__name__, error=str(error))

    async def _read_all(self) -> None:
        """Read the whole bucket again: no event reports what the server lost while the watch was down."""
        self._synced.clear()
        while not self.synced:
            try:
                entries = await self.kv.entries()
            except LlmosError as error:
                _log.warning("bucket.read_failed", kind=self.contract.__name__, error=error.message, retrying=True)
                await asyncio.sleep(RETRY_S)
                continue
            self._values.clear()
            self._stored.clear()
            self._revisions.clear()
            for entry in entries:
                self.apply(KvEvent(KvOperation.PUT, entry.key, entry.value, entry.revision))
            self._synced.set()

    @property
    def values(self) -> dict[str, Record]:
        """All records, in the order of their keys."""
        return dict(sorted(self._values.items()))

    def get(self, key: str) -> Record | None:
        """One record."""
        return self._values.get(key)

    def stored(self, key: str) -> bytes | None:
        """One record as the bucket has it."""
        return self._stored.get(key)

    async def write(self, key: str, value: Record) -> None:
        """Create or replace a record as it is known here.

        Raises `Conflict` if another process was faster; the record has been read again then, so a retry can succeed.
        """
        try:
            if key in self._values:
                revision = await self.kv.update(key, value.encode(), self._revisions[key])
            else:
                revision = await self.kv.create(key, value.encode())
        except Conflict:
            await self._read(key)
            raise
        self.apply(KvEvent(KvOperation.PUT, key, value.encode(), revision))

    async def delete(self, key: str) -> None:
        """Remove a record as it is known here; raises `Conflict` as `write` does."""
        if key not in self._values:
            return
        try:
            await self.kv.delete(key, self._revisions[key])
        except Conflict:
            await self._read(key)
            raise
        self.apply(KvEvent(KvOperation.DELETE, key, revision=self._revisions[key] + 1))

    async def _read(self, key: str) -> None:
        """Read one record again, ahead of the watch."""
        entry = await self.kv.get(key)
        self._values.pop(key, None)
        self._stored.pop(key, None)
        self._revisions.pop(key, None)
        if entry is not None:
            self.apply(KvEvent(KvOperation.PUT, key, entry.value, entry.revision))
