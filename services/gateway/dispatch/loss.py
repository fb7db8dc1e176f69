"""Decides when a replica that works on a request, or the rest of its frames, is lost. Pure: times are arguments.

While the gateway's own connection to the bus is down, no replica counts as silent. When the connection is back, each
replica has its full time to report again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from shared.contracts.load import LoadReport
from shared.contracts.scheduler import ReplicaState, ReplicaStatus
from shared.deadlines import LEASE_TTL_S, LOAD_FRESH_S

FRAME_AFTER_OUTAGE_S = 2.0
"""A request that gets no frame for this long after the bus connection came back has missed its last frame."""
OUTAGE_S = LEASE_TTL_S
"""A request is given up when the gateway's connection to the bus has been down for this long; the search for another
replica goes on."""
IDLE_REPORTS = 2
"""Consecutive load reports without work after which a request that the replica has accepted is lost."""

_UP = (ReplicaState.READY, ReplicaState.DRAINING)


@dataclass(slots=True)
class WatchedRequest:
    """One request at one replica. Made by `LossDetector.watch`."""

    replica_id: str
    incarnation: int
    """Of the replica, when the request was sent."""
    next_seq: int = 0
    last_event: float | None = None
    """When the request was accepted or its last frame arrived; None before, and where no frames are expected."""

    def frame(self, seq: int, now: float) -> str | None:
        """A frame arrived. Returns why the request is lost if a frame before it is missing."""
        if seq != self.next_seq:
            return f"frame {self.next_seq} is missing (got {seq})"
        self.next_seq += 1
        self.last_event = now
        return None


@dataclass(slots=True)
class _Reports:
    """The load reports of one replica."""

    steps: int
    at: float
    """When the last one arrived."""
    idle: int
    """Consecutive reports, since the last request was accepted, that say the replica has no work."""
    stalled_s: float = 0.0
    """Seconds without a step of its engine, as the last one said."""


@dataclass(slots=True)
class LossDetector:
    """What losses depend on, for all replicas. Times are seconds on one clock that never goes back."""

    _replicas: Mapping[str, ReplicaStatus] = field(default_factory=dict)
    _reports: dict[str, _Reports] = field(default_factory=dict)
    _incarnations: dict[str, int] = field(default_factory=dict)
    _connected_at: float = -inf
    """When the bus connection came back."""
    _disconnected_at: float | None = None
    """When the bus connection was lost; None while it is up."""

    # Events

    def connected(self, now: float) -> None:
        """The gateway is connected to the bus."""
        if self._disconnected_at is not None:
            self._disconnected_at, self._connected_at = None, now

    def disconnected(self, now: float) -> None:
        """The gateway has no connection to the bus."""
        if self._disconnected_at is None:
            self._disconnected_at = now

    def set_replicas(self, replicas: Mapping[str, ReplicaStatus]) -> None:
        """The replicas with a valid lease, by id. A replica that was not up in between has restarted."""
        for replica_id, before in self._replicas.items():
            after = replicas.get(replica_id)
            restarted = after is not None and after.restarts != before.restarts
            went_down = before.state in _UP and after is not None and after.state not in _UP
            if restarted or went_down:
                self._restarted(replica_id)
        self._replicas = dict(replicas)

    def report(self, report: LoadReport, now: float) -> None:
        """A load report arrived. It includes every request accepted before it: both travel on one connection."""
        idle = int(report.load.running == 0 and report.load.waiting == 0)
        before = self._reports.get(report.replica_id)
        if before is not None:
            if report.load.counters.steps < before.steps:
                self._restarted(report.replica_id)
            elif idle:
                idle += before.idle
        load = report.load
        self._reports[report.replica_id] = _Reports(load.counters.steps, now, idle, load.stalled_s)

    def watch(self, replica_id: str) -> WatchedRequest:
        """A request is about to be sent to a replica."""
        return WatchedRequest(replica_id, self._incarnations.get(replica_id, 0))

    def accepted(self, request: WatchedRequest, now: float) -> None:
        """The replica accepted a request: frames will come, and its next report includes the request."""
        request.last_event = now
        if reports := self._reports.get(request.replica_id):
            reports.idle = 0

    def forget_silent(self, now: float, after: float) -> None:
        """Forget replicas without a lease that have been silent for `after` seconds."""
        gone = [replica_id for replica_id in self._reports if replica_id not in self._replicas]
        for replica_id in gone:
            if self.silence(replica_id, now) > after:
                del self._reports[replica_id]
                self._incarnations.pop(replica_id, None)

    # Verdicts

    def lost(self, request: WatchedRequest, now: float) -> str | None:
        """Why a request is lost, or None while its replica works on it."""
        if reason := self._replica_lost(request, now):
            return reason
        if self._disconnected_at is not None:
            outage = now - self._disconnected_at
            return f"the gateway's bus connection was down for {OUTAGE_S:g} s" if outage > OUTAGE_S else None
        if request.last_event is None:
            return None
        reports = self._reports.get(request.replica_id)
        if reports is not None and reports.idle >= IDLE_REPORTS:
            return "it says that it has nothing to do: the last frames were lost"
        if request.last_event < self._connected_at <= now - FRAME_AFTER_OUTAGE_S:
            return "no frame came after the bus connection was restored"
        return None

    def _replica_lost(self, request: WatchedRequest, now: float) -> str | None:
        status = self._replicas.get(request.replica_id)
        if status is not None and status.state not in _UP:
            return f"it is {status.state}{': ' + status.message if status.message else ''}"
        if self._incarnations.get(request.replica_id, 0) != request.incarnation:
            return "it was restarted"
        silent = self.silence(request.replica_id, now)
        if silent > LEASE_TTL_S:
            return has_been_silent(silent)
        if status is None and silent > LOAD_FRESH_S:
            return f"its lease has expired, and {has_been_silent(silent)}"
        reports = self._reports.get(request.replica_id)
        if reports is not None and reports.stalled_s:
            return f"its engine has stalled: no step for {reports.stalled_s:.0f} s"
        return None

    def silence(self, replica_id: str, now: float) -> float:
        """Seconds for which a replica could have reported and did not; inf: it never has."""
        if self._disconnected_at is not None:
            return 0.0
        reports = self._reports.get(replica_id)
        return now - max(reports.at if reports else -inf, self._connected_at)

    def _restarted(self, replica_id: str) -> None:
        self._incarnations[replica_id] = self._incarnations.get(replica_id, 0) + 1


def has_been_silent(seconds: float) -> str:
    """A silence in words."""
    return f"it has been silent for {seconds:.0f} s" if seconds < inf else "it has never reported its load"
