"""Telemetry subjects, heartbeats, and the monitor's endpoints."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract, Empty, Endpoint

TELEMETRY_STREAM = "LLMOS_TELEMETRY"
TELEMETRY_SUBJECTS = "llmos.v1.telemetry.>"
TELEMETRY_MAX_BYTES = 256 * 1024 * 1024
TELEMETRY_MAX_AGE_S = 24 * 3600.0
"""Bounds of the stream; the oldest telemetry is removed first."""
TELEMETRY_DURABLE = "monitor"
"""The stream remembers under this name how far the monitor has read."""
TRACES_SUBJECT = "llmos.v1.telemetry.traces"
"""OTLP `ExportTraceServiceRequest`, protobuf."""


class DiskSpace(Contract):
    """The disk that a process and the bus write to."""

    folder: str
    free: int
    """Bytes; so is `total`."""
    total: int
    stopped: tuple[str, ...] = ()
    """What stopped for lack of room: telemetry, imports, changes, in this order."""
    why: str = ""
    """What stopped and why, in words; empty: nothing."""


class Heartbeat(Contract):
    """Whether a process is ready; published on `health_subject(service, instance)`."""

    service: str
    """registry, scheduler, inference, gateway, monitor or replica."""
    instance: str
    pid: int
    ready: bool
    reasons: tuple[str, ...] = ()
    """Why it is not ready."""
    started_at: datetime
    version: str
    memory: int = 0
    """Bytes that the process has resident; 0: not known."""
    leaving: bool = False
    """Whether this is the last heartbeat of a process that was asked to stop: it is gone, not down."""
    disk: DiskSpace | None = None
    """None: it watches none."""


class InstanceHealth(Contract):
    """A process by its last heartbeat."""

    heartbeat: Heartbeat
    age: float
    """Seconds since the last heartbeat."""
    up: bool


class HealthReport(Contract):
    """All processes with a recent heartbeat."""

    instances: tuple[InstanceHealth, ...]
    starts: dict[str, int] = Field(default_factory=dict)
    """Processes of each service that the monitor has seen since its own start."""
    pending: int = 0
    """Messages of telemetry that the monitor has not read yet, when it read the last one."""


class GetTrace(Contract):
    """One trace by its id: 32 hexadecimal digits."""

    trace_id: str


class TraceDocument(Contract):
    """A trace as OTLP JSON (`{"resourceSpans": [...]}`), as text so that nothing re-encodes it."""

    otlp_json: str
    spans: int


class ListTraces(Contract):
    """The newest traces, of those that match all that is given."""

    limit: int = Field(default=20, ge=1, le=1000)
    model: str | None = Field(default=None, max_length=128)
    """Deployment that the request named."""
    status: Annotated[str, StringConstraints(pattern=r"^([1-5]\d\d|[1-5]xx|error)$")] | None = None
    """HTTP status, a class of them, or `error`: a span failed, or the status is 400 or more."""
    key: str | None = Field(default=None, max_length=128)
    """Id of the API key."""
    slower_than: float | None = Field(default=None, ge=0)
    """Seconds that the root span took, at least."""
    since: float | None = Field(default=None, gt=0)
    """Seconds ago at which the root span began, at most."""


class TraceSummary(Contract):
    """One line about a trace."""

    trace_id: str
    name: str
    """Of the root span."""
    started_at: datetime
    duration: float
    """Seconds."""
    spans: int
    error: bool
    model: str | None = None
    status: int | None = None
    """Of HTTP, as the client got it."""
    key: str | None = None
    """Id of the API key."""
    reason: str | None = None
    """Why the request was refused or failed."""


class TraceList(Contract):
    """Newest first."""

    traces: tuple[TraceSummary, ...]
    max_age: float | None = None
    """Seconds that a trace is kept."""
    max_spans: int | None = None
    """Spans that are kept in all; the oldest traces go first."""
    max_bytes: int | None = None
    """Bytes of them."""


class AlertState(StrEnum):
    """Where an alert is in its life."""

    INACTIVE = "inactive"
    """Nothing is wrong; such alerts are not listed."""
    PENDING = "pending"
    """Something is wrong, but not for long enough yet."""
    FIRING = "firing"
    RESOLVED = "resolved"
    """It is not wrong any more; listed for an hour."""


class AlertView(Contract):
    """One alert."""

    rule: str
    labels: dict[str, str]
    """Of what: `model`, `replica`, `service`, `folder`, …"""
    severity: str
    """info, warning or critical."""
    state: AlertState
    summary: str
    """What is wrong, in numbers."""
    since: datetime
    """When it was seen first, this time."""
    fired_at: datetime | None = None
    resolved_at: datetime | None = None


class AlertList(Contract):
    """All alerts that are not inactive, by rule."""

    alerts: tuple[AlertView, ...]
    webhook_error: str = ""
    """Why the webhook could not be told last; empty: it could, or there is none."""


GET_TRACE = Endpoint("llmos.v1.monitor.get_trace", GetTrace, TraceDocument)
LIST_TRACES = Endpoint("llmos.v1.monitor.list_traces", ListTraces, TraceList)
GET_HEALTH = Endpoint("llmos.v1.monitor.get_health", Empty, HealthReport)
LIST_ALERTS = Endpoint("llmos.v1.monitor.list_alerts", Empty, AlertList)


def health_subject(service: str, instance: str) -> str:
    """Where a process publishes its heartbeats; `*` matches all."""
    return f"llmos.v1.health.{service}.{instance}"


DiskSpace.EXAMPLE = DiskSpace(folder="/home/ann/.llmos", free=42_000_000_000, total=250_000_000_000)
_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
Heartbeat.EXAMPLE = Heartbeat(
    service="registry", instance="registry-3f2a", pid=4242, ready=True, started_at=_TIME, version="0.1.0"
)
InstanceHealth.EXAMPLE = InstanceHealth(heartbeat=Heartbeat.EXAMPLE, age=0.4, up=True)
HealthReport.EXAMPLE = HealthReport(instances=(InstanceHealth.EXAMPLE,))
GetTrace.EXAMPLE = GetTrace(trace_id="0af7651916cd43dd8448eb211c80319c")
TraceDocument.EXAMPLE = TraceDocument(otlp_json='{"resourceSpans": []}', spans=0)
ListTraces.EXAMPLE = ListTraces()
TraceSummary.EXAMPLE = TraceSummary(
    trace_id="0af7651916cd43dd8448eb211c80319c",
    name="POST /v1/chat/completions",
    started_at=_TIME,
    duration=0.53,
    spans=6,
    error=False,
)
TraceList.EXAMPLE = TraceList(traces=(TraceSummary.EXAMPLE,))
AlertView.EXAMPLE = AlertView(
    rule="replicas_missing",
    labels={"model": "smollm2"},
    severity="warning",
    state=AlertState.FIRING,
    summary="0 of 1 replicas are ready",
    since=_TIME,
    fired_at=_TIME,
)
AlertList.EXAMPLE = AlertList(alerts=(AlertView.EXAMPLE,))
