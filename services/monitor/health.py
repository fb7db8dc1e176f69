"""Which processes are up, ready or down: a pure table of heartbeats, and the watch that feeds it."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from shared.bus import rpc
from shared.bus.port import Bus, Message
from shared.contracts.monitor import HealthReport, Heartbeat, InstanceHealth, health_subject
from shared.deadlines import FORGET_INSTANCE_S, HEARTBEAT_TTL_S
from shared.errors import InvalidInput

_log = structlog.get_logger("llmos.monitor")


class HealthTable:
    """The last heartbeat of every process. `now` is in monotonic seconds of one clock."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[Heartbeat, float]] = {}
        self._starts: Counter[str] = Counter()

    def observe(self, heartbeat: Heartbeat, now: float) -> None:
        """Note a heartbeat. A last one (`leaving`) removes its process."""
        key = (heartbeat.service, heartbeat.instance)
        if heartbeat.leaving:
            self._last.pop(key, None)
        else:
            if key not in self._last:
                self._starts[heartbeat.service] += 1
            self._last[key] = (heartbeat, now)

    def report(self, now: float, *, pending: int = 0) -> HealthReport:
        """All processes, by service and instance. One that was silent for `FORGET_INSTANCE_S` is dropped.

        `pending` messages of telemetry wait to be read.
        """
        self._last = {key: last for key, last in self._last.items() if now - last[1] < FORGET_INSTANCE_S}
        return HealthReport(
            instances=tuple(
                InstanceHealth(heartbeat=heartbeat, age=round(now - seen, 3), up=now - seen < HEARTBEAT_TTL_S)
                for _, (heartbeat, seen) in sorted(self._last.items())
            ),
            starts=dict(self._starts),
            pending=pending,
        )


class HealthWatch:
    """Feeds a `HealthTable` with every heartbeat on the bus."""

    def __init__(self, bus: Bus, table: HealthTable, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._table = table
        self._clock = clock

    @asynccontextmanager
    async def running(self) -> AsyncIterator["HealthWatch"]:
        """Receive heartbeats while inside."""
        subscription = await self._bus.subscribe(health_subject("*", ">"), self._receive)
        try:
            yield self
        finally:
            await subscription.unsubscribe()

    def _receive(self, message: Message) -> None:
        try:
            heartbeat = rpc.parse(Heartbeat, message.data)
        except InvalidInput as error:
            _log.warning("heartbeat.unreadable", subject=message.subject, error=error.message)
            return
        self._table.observe(heartbeat, self._clock())
