"""What each rule can be given: the tables of `alerts.toml`, with defaults that are safe."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Severity = Literal["info", "warning", "critical"]


class Options(BaseModel):
    """Common to all rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    severity: Severity = "warning"
    for_s: float = Field(default=60.0, ge=0, le=86400)
    """Seconds that it must hold before it fires."""


class BurnOptions(Options):
    """How fast an error budget is used up, by two pairs of windows.

    Source: https://sre.google/workbook/alerting-on-slos/, section 6.
    """

    severity: Severity = "critical"
    for_s: float = Field(default=0.0, ge=0, le=86400)
    objective: float = Field(default=0.99, gt=0, lt=1)
    """Share of requests that should be good."""
    fast: float = Field(default=14.4, gt=1)
    """Times the allowed rate, over an hour and five minutes: critical."""
    slow: float = Field(default=6.0, gt=1)
    """Times the allowed rate, over six hours and thirty minutes: a warning."""
    min_requests: int = Field(default=20, ge=1)
    """Fewer in the long window say nothing."""

    @model_validator(mode="after")
    def _can_fire(self) -> Self:
        for name in ("fast", "slow"):
            if (share := getattr(self, name) * (1 - self.objective)) > 1:
                raise ValueError(
                    f"{name} times what an objective of {self.objective:g} allows is {share:.0%} of all requests,"
                    f" which can't be: choose {name} below {1 / (1 - self.objective):.4g}"
                )
        return self


class LatencyOptions(BurnOptions):
    """Of the time to the first token, from a replica's acceptance."""

    objective: float = Field(default=0.95, gt=0, lt=1)
    threshold_s: float = Field(default=10.0, gt=0)
    """A first token that takes longer is slow."""


class QueueOptions(Options):
    """Of one deployment: requests that wait for a slot."""

    for_s: float = Field(default=120.0, ge=0, le=86400)
    waiting: int = Field(default=16, ge=1)
    """So many wait now, at least."""
    window_s: float = Field(default=300.0, ge=10, le=3600)
    growth: float = Field(default=1.5, gt=1)
    """And so many times as many as on average in the first third of the window."""


class FlappingOptions(Options):
    """Of one replica."""

    for_s: float = Field(default=0.0, ge=0, le=86400)
    restarts: int = Field(default=3, ge=1)
    """In the window, at least."""
    window_s: float = Field(default=900.0, ge=60, le=3600)


class DiskOptions(Options):
    """Of each disk that a process watches."""

    free: float = Field(default=0.15, gt=0, lt=1)
    """Less than this share is free."""


class MemoryOptions(Options):
    """Of one replica, of what it was granted."""

    used: float = Field(default=0.95, gt=0, le=2)
    """More than this share is resident."""


class BusOptions(Options):
    """Of the message bus."""

    round_trip_s: float = Field(default=1.0, gt=0)
    """To its storage and back takes longer."""
    pending: int = Field(default=10_000, ge=1)
    """Or so many messages of telemetry have not been read."""


class ReplicasOptions(Options):
    """A deployment has fewer replicas that are ready than it should."""

    for_s: float = Field(default=300.0, ge=0, le=86400)


class ShortOptions(Options):
    """Of what must not last: an engine without steps, no leader, a process without heartbeats."""

    severity: Severity = "critical"
    for_s: float = Field(default=15.0, ge=0, le=86400)


class AuditOptions(Options):
    """What the check of the chains of events finds."""

    severity: Severity = "critical"
    for_s: float = Field(default=0.0, ge=0, le=86400)
    every_s: float = Field(default=3600.0, ge=60, le=7 * 86400)
    """Seconds between two checks."""


class RuleOptions(BaseModel):
    """All rules, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_burn: BurnOptions = BurnOptions()
    latency_burn: LatencyOptions = LatencyOptions()
    queue_growth: QueueOptions = QueueOptions()
    replica_flapping: FlappingOptions = FlappingOptions()
    replica_stalled: ShortOptions = ShortOptions(for_s=10.0)
    replicas_missing: ReplicasOptions = ReplicasOptions()
    no_leader: ShortOptions = ShortOptions()
    process_down: ShortOptions = ShortOptions(severity="warning")
    disk_low: DiskOptions = DiskOptions()
    memory_near_grant: MemoryOptions = MemoryOptions()
    bus_lag: BusOptions = BusOptions()
    audit_gap: AuditOptions = AuditOptions()
