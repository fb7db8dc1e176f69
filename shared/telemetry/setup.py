"""Turns telemetry on for a process: once, at start, from `run_service`."""

import asyncio
import time
from dataclasses import dataclass

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from shared.bus.port import Bus
from shared.deadlines import TELEMETRY_FLUSH_S
from shared.disk import Disk
from shared.telemetry.exporter import BoundedSpanProcessor, BusSpanExporter

_log = structlog.get_logger("llmos.telemetry")

EXPORT_DELAY_S = 0.25
"""A span is on the bus this long after its end at the latest, so a trace can be read soon after its answer."""
MAX_QUEUED = 8192
MAX_BATCH = 512
SPAN_LIMITS = SpanLimits(max_attribute_length=256, max_span_attributes=64, max_events=64, max_links=8)
"""Characters of an attribute, and numbers: what a client sent may be part of any of them."""


@dataclass(frozen=True, slots=True)
class _Running:
    spans: BusSpanExporter
    provider: TracerProvider


_running: _Running | None = None
_configured = False


def configure(service: str, instance: str, bus: Bus, disk: Disk) -> None:
    """Send this process's spans over `bus` while `disk` has room for them, once per process, on the bus's event loop.

    Raises:
        RuntimeError: it was called before; OpenTelemetry's provider can be set once per process.
    """
    global _running, _configured  # noqa: PLW0603  # OpenTelemetry's own provider is global to the process too
    if _configured:
        raise RuntimeError("telemetry was configured before: OpenTelemetry allows it once per process")
    _configured = True
    loop = asyncio.get_running_loop()
    resource = Resource.create(
        {"service.name": service, "service.namespace": "llmos", "service.instance.id": instance}
    )
    spans = BusSpanExporter(bus, loop, disk)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, span_limits=SPAN_LIMITS)
    provider.add_span_processor(
        BoundedSpanProcessor(spans, max_queue=MAX_QUEUED, batch=MAX_BATCH, delay_s=EXPORT_DELAY_S)
    )
    trace.set_tracer_provider(provider)
    _running = _Running(spans, provider)


async def shutdown(timeout: float = TELEMETRY_FLUSH_S) -> None:
    """Send what is queued within `timeout` seconds, and stop. The rest is dropped and counted. Idempotent."""
    global _running
    running, _running = _running, None
    if running is None:
        return
    running.spans.close_by(time.monotonic() + timeout)
    await asyncio.to_thread(running.provider.shutdown)
    if lost := running.spans.drops.total:
        _log.warning("telemetry.lost", items=lost)
