"""Writes snapshots of control state into the store: after a change, and not more often than the interval says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import structlog

from shared.bus.port import Bus, KvOperation
from shared.contracts.state import SystemRecord
from shared.errors import LlmosError
from shared.service.background import background
from shared.state.reading import CONTROL_BUCKETS, read_state
from shared.state.snapshots import Snapshots
from shared.storage.port import ArtifactStore

SETTLE_S = 1.0
"""After a change: what belongs to one action is one snapshot."""
RETRY_S = 10.0
LAST_S = 3.0
"""For the last snapshot, when the registry ends."""

_log = structlog.get_logger("llmos.registry")


class SnapshotWriter:
    """Follows all buckets of control state.

    Several registries may do it at once: who finds that the newest snapshot has what it has read writes nothing.

    Args:
        bus: May read all control state.
        store: Where snapshots go.
        system: That of the bus; None: the bus was not prepared, and nothing is written.
        interval: Seconds between two snapshots at least.
        number: Snapshots that stay, the newest first.
        days: Days of which the last one stays as well.
        now: The time in UTC.
    """

    def __init__(
        self,
        bus: Bus,
        store: ArtifactStore,
        system: SystemRecord | None,
        *,
        interval: float,
        number: int,
        days: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bus = bus
        self._snapshots = Snapshots(store)
        self._system = system
        self._interval = interval
        self._number = number
        self._days = days
        self._now = now
        self._revisions: dict[str, int] = {}
        """The newest change of each bucket, deletions included."""
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write snapshots while inside, and a last one on the way out if something changed."""
        if self._system is None:
            _log.warning("snapshots.off", reason="the bus was not prepared: 'python -m shared.state prepare' does it")
            yield
            return
        async with AsyncExitStack() as stack:
            for bucket in CONTROL_BUCKETS:
                await stack.enter_async_context(background(self._follow(bucket), f"follow {bucket}"))
            async with background(self._write_all(), "write snapshots"):
                yield
            if self._changed.is_set():
                try:
                    async with asyncio.timeout(LAST_S):
                        await self._write(self._system)
                except TimeoutError:
                    _log.warning("snapshot.not_written", error=f"not within {LAST_S:g} s")

    async def _follow(self, bucket: str) -> None:
        async with self._bus.kv(bucket).watch() as events:
            async for event in events:
                if event.operation is not KvOperation.SYNCED:
                    self._revisions[bucket] = max(event.revision, self._revisions.get(bucket, 0))
                self._changed.set()

    async def _write_all(self) -> None:
        assert self._system is not None
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_S)
            await asyncio.sleep(await self._time_left())
            self._changed.clear()
            if not await self._write(self._system):
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def _time_left(self) -> float:
        """Seconds until the next snapshot may be written; other registries write too."""
        try:
            newest = (await self._snapshots.all())[:1]
        except LlmosError:
            return 0.0  # writing says what is wrong
        age = (self._now() - newest[0].taken_at).total_seconds() if newest else self._interval
        return min(self._interval, max(0.0, self._interval - age))

    async def _write(self, system: SystemRecord) -> bool:
        """Whether control state is in the store now."""
        try:
            # The revisions of before the reading: those that come meanwhile may be of changes that it did not see.
            state = await read_state(self._bus, system, self._now(), revisions=dict(self._revisions))
            written = await self._snapshots.write(state)
            if written is not None:
                _log.info("snapshot.written", snapshot=str(written))
                await self._snapshots.remove_superseded(self._now(), number=self._number, days=self._days)
        except LlmosError as error:
            _log.warning("snapshot.not_written", error=error.message, retrying=True)
            return False
        return True
