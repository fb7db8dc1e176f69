"""Leases: entries that their holders renew, and that expire when they are not renewed.

A bucket's own time to live removes an entry at the server without an event. So every reader has a `LeaseTable`: it
watches the bucket and drops a lease when no renewal was seen for the time to live, by its own clock. While the watch
is not fresh no lease expires; afterwards each has one full time to live, also one that the bucket lacks then: the
server keeps leases in memory, so a restart of the server loses them, and their holders write them again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import structlog

from shared.bus.port import KeyValue, KvEvent, KvOperation, Watch
from shared.bus.tasks import end
from shared.deadlines import LEASE_RENEW_S
from shared.errors import Conflict, DeadlineExceeded, LlmosError, Unavailable

_log = structlog.get_logger("llmos.bus")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Seen(Generic[Value]):
    value: Value
    at: float


class LeaseTable(Generic[Value]):
    """A local view of the leases in a bucket.

    Args:
        bucket: Where the leases are.
        ttl: Seconds without a renewal after which a lease has expired.
        decode: A value from its bytes. What it cannot decode is logged and left out.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        bucket: KeyValue,
        ttl: float,
        decode: Callable[[bytes], Value],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._ttl = ttl
        self._decode = decode
        self._clock = clock
        self._seen: dict[str, _Seen[Value]] = {}
        self._synced = asyncio.Event()
        self._watch: Watch | None = None

    def live(self) -> dict[str, Value]:
        """The leases that hold now, by key."""
        self._expire()
        return {key: seen.value for key, seen in sorted(self._seen.items())}

    @property
    def fresh(self) -> bool:
        """Whether the bucket is seen as it is now; otherwise `live` is how it was."""
        return self._watch is not None and self._watch.fresh

    async def wait_synced(self) -> None:
        """Wait until the bucket was read once."""
        await self._synced.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Watch the bucket while inside."""
        async with self._bucket.watch() as self._watch:
            following = asyncio.create_task(self._follow(self._watch), name="follow leases")
            try:
                yield self
            finally:
                await end(following)

    async def _follow(self, events: Watch) -> None:
        async for event in events:
            self._apply(event)

    def _apply(self, event: KvEvent) -> None:
        if event.operation is KvOperation.PUT:
            try:
                self._seen[event.key] = _Seen(self._decode(event.value), self._clock())
            except Exception as error:  # noqa: BLE001  # a foreign value must not stop the other leases
                _log.warning("lease.unreadable", key=event.key, error=str(error))
                self._seen.pop(event.key, None)
        elif event.operation is KvOperation.DELETE:
            seen = self._seen.pop(event.key, None)
            if seen is not None and not event.revision:  # nobody was seen to delete it: the server may have lost it
                self._seen[event.key] = _Seen(seen.value, self._clock())
        else:
            self._synced.set()

    def _expire(self) -> None:
        if not self.fresh:
            return
        now = self._clock()
        for key, seen in list(self._seen.items()):
            if now - seen.at > self._ttl:
                _log.info("lease.expired", key=key, silent_for=round(now - seen.at, 3))
                del self._seen[key]


class Lease:
    """A lease held by this process while it is `running`.

    A value that another process wrote to the key meanwhile stays. A lost connection only delays the renewal until the
    connection is back.

    Args:
        bucket: Where the lease is; made with a time to live, so that it expires if it is not deleted.
        key: The lease's key.
        value: What it says.
        every: Seconds between renewals.
    """

    def __init__(self, bucket: KeyValue, key: str, value: bytes, *, every: float = LEASE_RENEW_S) -> None:
        self._bucket = bucket
        self._key = key
        self._value = value
        self._every = every
        self._writing = asyncio.Lock()
        self._failing = False

    async def set(self, value: bytes) -> None:
        """Change what the lease says, now if the connection is up, else when it is back."""
        self._value = value
        await self._renew()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Renew the lease while inside; leaving deletes it."""
        await self._renew()
        renewing = asyncio.create_task(self._renew_for_ever(), name=f"renew the lease {self._key}")
        try:
            yield self
        finally:
            await end(renewing)
            await self._delete()

    async def _delete(self) -> None:
        try:
            entry = await self._bucket.get(self._key)
            if entry is not None and entry.value == self._value:
                await self._bucket.delete(self._key, entry.revision)
        except Conflict:
            _log.info("lease.not_deleted", key=self._key, reason="another process holds it now")
        except LlmosError as failure:
            _log.warning("lease.not_deleted", key=self._key, error=failure.message, consequence="it expires")

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._renew()
            except LlmosError as error:
                _log.exception("lease.not_renewed", key=self._key, error=error.message, retrying=True)

    async def _renew(self) -> None:
        async with self._writing:
            try:
                await self._bucket.put(self._key, self._value)
            except (Unavailable, DeadlineExceeded) as error:
                if not self._failing:
                    _log.warning("lease.not_renewed", key=self._key, error=error.message, retrying=True)
                self._failing = True
            else:
                self._failing = False
