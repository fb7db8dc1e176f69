"""One look at the system: all that rules are given. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.monitor.alerts.policy.rates import Count
from shared.contracts.events import AuditReport
from shared.contracts.monitor import DiskSpace, InstanceHealth

Series = Sequence[tuple[float, float]]
"""Times in seconds, rising, the last one now; and values."""


@dataclass(frozen=True, slots=True)
class ReplicaSignals:
    """One replica."""

    deployment: str
    ready: bool
    memory: int
    """Bytes resident; 0: not measured yet."""
    granted: int
    """Bytes; 0: not known."""
    restarts: Series
    stalled_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Signals:
    """Everything; None where it is not known now: rules over it keep the states that they have."""

    windows: Mapping[float, Mapping[str, Count]] = field(default_factory=dict)
    """Seconds -> deployment -> sums."""
    desired: Mapping[str, int] | None = None
    """Replicas of each deployment."""
    replicas: Mapping[str, ReplicaSignals] | None = None
    """By id."""
    waiting: Mapping[str, Series] | None = None
    """Requests in the queues of each deployment."""
    has_leader: bool | None = None
    instances: Sequence[InstanceHealth] = ()
    disks: Mapping[str, DiskSpace] = field(default_factory=dict)
    """By folder."""
    round_trip_s: float | None = None
    """To the bus's storage and back; None: it did not answer."""
    pending: int = 0
    """Messages of telemetry that were not read yet."""
    audit: AuditReport | None = None
    """The last check of the chains of events; None: there was none yet."""
