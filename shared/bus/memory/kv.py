"""Buckets in memory, as the port shows them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

from shared.bus.memory.broker import MemoryBroker
from shared.bus.memory.bucket import Bucket
from shared.bus.merge import WatchMerge
from shared.bus.names import check_bucket, check_key, matches
from shared.bus.port import MAX_RECORD, KvEntry, KvEvent, KvOperation
from shared.errors import Conflict, Disconnected, PayloadTooLarge


class MemoryKeyValue:
    """A bucket through one connection."""

    def __init__(
        self,
        broker: MemoryBroker,
        bucket: str,
        ttl: float | None,
        max_bytes: int | None,
        connected: Callable[[], bool],
    ) -> None:
        check_bucket(bucket)
        self.bucket = bucket
        self._broker = broker
        self._connected = connected
        self._bucket = broker.buckets.setdefault(bucket, Bucket(broker.clock))
        if ttl is not None:
            self._bucket.ttl = ttl
        if max_bytes is not None:
            self._bucket.max_bytes = max_bytes

    async def get(self, key: str) -> KvEntry | None:
        """The entry, or None."""
        check_key(key)
        return self._reached().get(key)

    async def put(self, key: str, value: bytes) -> int:
        """Write whether the key exists or not; returns the new revision."""
        self._check(key, value)
        return self._reached().write(key, value)

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that must not exist; raises `Conflict`."""
        self._check(key, value)
        if self._reached().get(key) is not None:
            raise Conflict(f"{key!r} exists already in {self.bucket}")
        return self._bucket.write(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the entry is still at `revision`; raises `Conflict`."""
        self._check(key, value)
        entry = self._reached().get(key)
        if (entry.revision if entry else 0) != revision:
            raise self._changed(key, revision)
        return self._bucket.write(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove the key, if given only at `revision` (raises `Conflict`). A missing key is no error."""
        check_key(key)
        entry = self._reached().get(key)
        if entry is None:
            return
        if revision is not None and entry.revision != revision:
            raise self._changed(key, revision)
        self._bucket.remove(key)

    async def entries(self, pattern: str = ">") -> list[KvEntry]:
        """The entries whose keys match, by key."""
        found = [entry for entry in self._reached().entries() if matches(pattern, entry.key)]
        return sorted(found, key=lambda entry: entry.key)

    def watch(self) -> "AbstractAsyncContextManager[MemoryWatch]":
        """All that is there, `SYNCED`, then every change, in order, across reconnects."""
        return MemoryWatch(self._broker, self._bucket, self._connected).running()

    def _reached(self) -> Bucket:
        if not self._connected():
            raise Disconnected("the bus connection is down; it is being made again")
        return self._bucket

    def _check(self, key: str, value: bytes) -> None:
        check_key(key)
        if len(value) > MAX_RECORD:
            raise PayloadTooLarge(
                f"the value of {key!r} has {len(value)} bytes; a record of the bus has at most {MAX_RECORD}"
            )

    def _changed(self, key: str, revision: int) -> Conflict:
        return Conflict(f"{key!r} in {self.bucket} is no longer at revision {revision}: read it again")


class MemoryWatch:
    """One watch: an iterator of events while it is `running`."""

    def __init__(self, broker: MemoryBroker, bucket: Bucket, connected: Callable[[], bool]) -> None:
        self._broker = broker
        self._bucket = bucket
        self._connected = connected
        self._merge = WatchMerge()
        self._arrived = asyncio.Event()

    @property
    def fresh(self) -> bool:
        """Whether the bucket is seen as it is now."""
        return self._merge.complete and self._connected()

    def _add(self, event: KvEvent) -> None:
        self._merge.add(self._merge.run, event)
        self._arrived.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Receive the bucket's events while inside."""
        self._broker.on_change(self._connection_changed)
        self._begin()
        try:
            yield self
        finally:
            self._broker.forget(self._connection_changed)
            self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KvEvent:
        while (event := self._merge.read()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return event

    def _connection_changed(self) -> None:
        self._end()
        self._merge.end_run()
        self._begin()

    def _begin(self) -> None:
        if not self._connected():
            return
        for entry in self._bucket.entries():
            self._add(KvEvent(KvOperation.PUT, entry.key, entry.value, entry.revision))
        self._add(KvEvent(KvOperation.SYNCED))
        self._bucket.watchers.append(self._add)

    def _end(self) -> None:
        if self._add in self._bucket.watchers:
            self._bucket.watchers.remove(self._add)
