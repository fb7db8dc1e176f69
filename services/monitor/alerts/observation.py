"""What the rules look at: the monitor's own view of records, leases, load reports, heartbeats, spans and events."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from services.monitor.alerts.policy.rates import Rates
from services.monitor.alerts.policy.rules import BURN_WINDOWS
from services.monitor.alerts.policy.signals import ReplicaSignals, Signals
from services.monitor.health import HealthTable
from services.monitor.spans import StoredSpan
from shared.audit.reading import EventReader
from shared.bus import rpc
from shared.bus.leases import LeaseTable
from shared.bus.port import Bus, Message
from shared.bus.records import Records
from shared.contracts.events import AuditReport
from shared.contracts.load import LoadReport, load_subject
from shared.contracts.scheduler import (
    DEPLOYMENTS_BUCKET,
    LEASES_BUCKET,
    REPLICAS_BUCKET,
    Deployment,
    Leadership,
    ReplicaState,
    ReplicaStatus,
)
from shared.deadlines import LEASE_TTL_S
from shared.errors import InvalidInput, LlmosError

_log = structlog.get_logger("llmos.monitor")

SERIES_S = 3600.0
"""For so long values are remembered."""
LOAD_S = 5.0
"""A load report is good for this long."""
ASK_S = 5.0
_NO_DEPLOYMENT = "-"


@dataclass(slots=True)
class History:
    """Values of the last hour, by name."""

    _values: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)

    def note(self, now: float, values: dict[str, float]) -> None:
        """Take in the values of now; what has none is forgotten."""
        for name in self._values.keys() - values.keys():
            del self._values[name]
        for name, value in values.items():
            series = self._values.setdefault(name, deque())
            series.append((now, value))
            while series[0][0] < now - SERIES_S:
                series.popleft()

    def of(self, name: str) -> list[tuple[float, float]]:
        """The series of a name."""
        return list(self._values.get(name, ()))


class Observation:
    """Follows all that the rules need while it runs.

    Args:
        bus: Has it.
        health: The heartbeats.
        slow_s: Seconds from which a first token is slow.
        pending: Messages of telemetry that were not read yet.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        bus: Bus,
        health: HealthTable,
        *,
        slow_s: float,
        pending: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._health = health
        self._pending = pending
        self._clock = clock
        self._rates = Rates(slow_s)
        self._deployments_kv = bus.kv(DEPLOYMENTS_BUCKET)
        self._deployments = Records(self._deployments_kv, Deployment)
        self._replicas = LeaseTable(bus.kv(REPLICAS_BUCKET), LEASE_TTL_S, ReplicaStatus.decode)
        self._leader = LeaseTable(bus.kv(LEASES_BUCKET), LEASE_TTL_S, Leadership.decode)
        self._loads: dict[str, tuple[float, LoadReport]] = {}
        self._restarts, self._waiting = History(), History()
        self._events = EventReader(bus)
        self._audit: AuditReport | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Observation"]:
        """Follow while inside."""
        subscription = await self._bus.subscribe(load_subject(">"), self._on_report)
        try:
            async with self._deployments.running(), self._replicas.running(), self._leader.running():
                yield self
        finally:
            await subscription.unsubscribe()

    def spans(self, spans: Iterable[StoredSpan]) -> None:
        """Take in spans that came: requests that ended, and first tokens."""
        now = self._clock()
        for span in spans:
            facts = span.facts
            if facts is not None and facts.status is not None and facts.model is not None:
                self._rates.request(facts.model, facts.status, now)
            if span.first_token is not None:
                self._rates.first_token(span.first_token.deployment, span.first_token.seconds, now)

    async def check_events(self) -> None:
        """Check all chains of events."""
        self._audit = await self._events.verify({}, datetime.now(UTC))

    async def look(self) -> Signals:
        """One look."""
        round_trip = await self._round_trip()
        now = self._clock()
        fresh = self._deployments.synced and self._replicas.fresh
        desired = {name: record.replicas for name, record in self._deployments.values.items()} if fresh else None
        replicas = self._replicas.live() if fresh else None
        instances = self._health.report(now).instances
        if replicas is not None:
            self._restarts.note(now, {name: float(status.restarts) for name, status in replicas.items()})
        if desired is not None:
            self._waiting.note(now, self._queues(desired, now))
        return Signals(
            windows={window: self._rates.over(window, now) for pair in BURN_WINDOWS.values() for window in pair},
            desired=desired,
            replicas=None if replicas is None else {name: self._replica(one) for name, one in replicas.items()},
            waiting=None if desired is None else {name: self._waiting.of(name) for name in desired},
            has_leader=bool(self._leader.live()) if self._leader.fresh else None,
            instances=instances,
            disks={one.heartbeat.disk.folder: one.heartbeat.disk for one in instances if one.heartbeat.disk},
            round_trip_s=round_trip,
            pending=self._pending(),
            audit=self._audit,
        )

    def _queues(self, desired: Iterable[str], now: float) -> dict[str, float]:
        self._loads = {key: load for key, load in self._loads.items() if now - load[0] < LOAD_S}
        waiting = dict.fromkeys(desired, 0.0)
        for _, report in self._loads.values():
            if report.deployment in waiting:
                waiting[report.deployment] += report.load.waiting
        return waiting

    def _replica(self, status: ReplicaStatus) -> ReplicaSignals:
        record = self._deployments.get(status.deployment)
        granted = None
        if record is not None and record.version == status.version:
            granted = record.gpu_resources if status.device == "cuda" else record.resources
        load = self._loads.get(status.id)
        return ReplicaSignals(
            deployment=status.deployment,
            ready=status.state is ReplicaState.READY,
            memory=status.memory,
            granted=granted.memory if granted is not None else 0,
            restarts=self._restarts.of(status.id),
            stalled_s=load[1].load.stalled_s if load is not None else 0.0,
        )

    async def _round_trip(self) -> float | None:
        begun = self._clock()
        try:
            async with asyncio.timeout(ASK_S):
                await self._deployments_kv.get(_NO_DEPLOYMENT)
        except (LlmosError, TimeoutError):
            return None
        return self._clock() - begun

    def _on_report(self, message: Message) -> None:
        try:
            report = rpc.parse(LoadReport, message.data)
        except InvalidInput as error:
            _log.warning("load.unreadable", subject=message.subject, error=error.message)
            return
        self._loads[report.replica_id] = (self._clock(), report)
