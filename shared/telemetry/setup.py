"""Turns telemetry on for a process: once, at start, from `run_service`."""

import asyncio
import logging
import time
from dataclasses import dataclass

import structlog
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from shared.bus.port import Bus
from shared.telemetry.exporter import BoundedSpanProcessor, BusLogExporter, BusSpanExporter
from shared.telemetry.log_export import OtlpHandler

_log = structlog.get_logger("llmos.telemetry")

EXPORT_DELAY_S = 0.25
"""A span is on the bus this long after its end at the latest, so a trace can be read soon after its answer."""
MAX_QUEUED = 8192
MAX_BATCH = 512
FLUSH_S = 2.0


@dataclass(frozen=True, slots=True)
class _Running:
    spans: BusSpanExporter
    tracer_provider: TracerProvider
    logs: BusLogExporter
    logger_provider: LoggerProvider
    handler: OtlpHandler


_running: _Running | None = None
_configured = False


def configure(service: str, instance: str, bus: Bus) -> None:
    """Send this process's spans, warnings and errors over `bus`. Call on the bus's event loop, once per process.

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
    spans = BusSpanExporter(bus, loop)
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(
        BoundedSpanProcessor(spans, max_queue=MAX_QUEUED, batch=MAX_BATCH, delay_s=EXPORT_DELAY_S)
    )
    trace.set_tracer_provider(tracer_provider)

    logs = BusLogExporter(bus, loop)
    logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(
        BatchLogRecordProcessor(logs, schedule_delay_millis=2 * EXPORT_DELAY_S * 1000, max_queue_size=1024)
    )
    handler = OtlpHandler(logger_provider)
    logging.getLogger().addHandler(handler)
    _running = _Running(spans, tracer_provider, logs, logger_provider, handler)


async def shutdown(timeout: float = FLUSH_S) -> None:
    """Send what is queued within `timeout` seconds, and stop. The rest is dropped and counted. Idempotent."""
    global _running
    running, _running = _running, None
    if running is None:
        return
    logging.getLogger().removeHandler(running.handler)
    deadline = time.monotonic() + timeout
    running.spans.sender.close_by(deadline)
    running.logs.sender.close_by(deadline)
    await asyncio.to_thread(running.tracer_provider.shutdown)
    await asyncio.to_thread(running.logger_provider.shutdown)
    lost = running.spans.drops.total + running.logs.drops.total
    if lost:
        _log.warning("telemetry was lost in this run", items=lost)
