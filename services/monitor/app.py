"""Composition root: the only place of the monitor that connects things."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from services.monitor.alerts.observation import Observation
from services.monitor.alerts.rule_file import read_alerts_file
from services.monitor.alerts.watch import AlertWatch
from services.monitor.archive import Archive
from services.monitor.export import Forwarder
from services.monitor.health import HealthTable, HealthWatch
from services.monitor.ingest import Ingest
from services.monitor.settings import Settings
from services.monitor.store import Limits
from shared.bus import rpc
from shared.contracts.base import Empty
from shared.contracts.monitor import (
    GET_HEALTH,
    GET_TRACE,
    LIST_ALERTS,
    LIST_TRACES,
    TELEMETRY_DURABLE,
    GetTrace,
    HealthReport,
    ListTraces,
    TraceDocument,
    TraceList,
)
from shared.errors import StorageFull
from shared.service.background import background
from shared.service.context import Context
from shared.telemetry.stream import telemetry_stream

_log = structlog.get_logger("llmos.monitor")

QUEUE = "monitor"
SWEEP_S = 60.0
"""Seconds between deletions of traces that became too old, when no new ones come."""


@asynccontextmanager
async def app(context: Context, settings: Settings) -> AsyncIterator[None]:
    """Store telemetry and serve it while inside; leaving ends the intake first."""
    rules = read_alerts_file(settings.alerts_file)
    bus, table = context.bus, HealthTable()
    if settings.folder is None:
        _log.info("traces.in_memory", consequence="they are lost at exit", to_keep_them="set LLMOS_MONITOR_DIR")
    async with AsyncExitStack() as stack:
        limits = Limits(spans=settings.max_spans, bytes=settings.max_bytes, age=settings.max_age)
        archive = await stack.enter_async_context(Archive(settings.folder, limits).running())
        forwarder = Forwarder(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if forwarder is not None:
            await stack.enter_async_context(forwarder.running())
        await stack.enter_async_context(HealthWatch(bus, table, time.monotonic).running())
        await stack.enter_async_context(background(_sweep(archive), "sweep traces"))

        observation = Observation(
            bus, table, slow_s=rules.rules.latency_burn.threshold_s, pending=lambda: ingest.pending
        )
        await stack.enter_async_context(observation.running())
        ingest = Ingest(archive, forwarder, context.readiness, context.disk, observation.spans)
        consumption = await telemetry_stream(bus).consume(ingest.handle, durable=TELEMETRY_DURABLE)
        stack.push_async_callback(consumption.unsubscribe)

        alerts = await stack.enter_async_context(AlertWatch(observation, rules, context.trail()).running())

        async def get_trace(request: GetTrace) -> TraceDocument:
            return await archive.trace(request.trace_id)

        async def list_traces(request: ListTraces) -> TraceList:
            return await archive.newest(request)

        async def get_health(_: Empty) -> HealthReport:
            return table.report(time.monotonic(), pending=ingest.pending)

        handlers: rpc.Handlers = {
            GET_TRACE: get_trace,
            LIST_TRACES: list_traces,
            GET_HEALTH: get_health,
            LIST_ALERTS: alerts.list,
        }
        await stack.enter_async_context(rpc.serve(bus, handlers, queue=QUEUE))
        yield


async def _sweep(archive: Archive) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await archive.enforce_limits()
        except StorageFull as error:
            _log.warning("traces.not_deleted", error=error.message, retrying=True)
