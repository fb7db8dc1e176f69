"""A service's endpoints, served together."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.bus.memory.bus import MemoryBus
from shared.bus.rpc import Handlers, call, serve
from shared.contracts.base import Empty
from shared.contracts.monitor import GET_HEALTH, GET_TRACE, GetTrace, HealthReport, TraceDocument
from shared.errors import NoResponders, NotFound


async def get_trace(request: GetTrace) -> TraceDocument:
    if request.trace_id == "unknown":
        raise NotFound("there is no such trace")
    return TraceDocument(otlp_json=request.trace_id, spans=1)


async def get_health(_: Empty) -> HealthReport:
    return HealthReport(instances=())


HANDLERS: Handlers = {GET_TRACE: get_trace, GET_HEALTH: get_health}


async def test_every_endpoint_has_its_handler_while_inside() -> None:
    bus = MemoryBus()
    async with serve(bus, HANDLERS):
        assert (await call(bus, GET_TRACE, GetTrace(trace_id="ab"), timeout=1)).otlp_json == "ab"
        assert (await call(bus, GET_HEALTH, Empty(), timeout=1)).instances == ()
    for request in (
        call(bus, GET_TRACE, GetTrace(trace_id="ab"), timeout=1),
        call(bus, GET_HEALTH, Empty(), timeout=1),
    ):
        with pytest.raises(NoResponders):
            await request
    await bus.drain()


async def test_members_of_a_queue_group_share_the_requests() -> None:
    bus, calls = MemoryBus(), [0, 0]

    def counting(member: int) -> Handlers:
        async def handler(_: Empty) -> HealthReport:
            calls[member] += 1
            return HealthReport(instances=())

        return {GET_HEALTH: handler}

    async with serve(bus, counting(0), queue="q"), serve(bus, counting(1), queue="q"):
        for _ in range(4):
            await call(bus, GET_HEALTH, Empty(), timeout=1)
    assert calls == [2, 2]
    await bus.drain()


async def test_leaving_waits_for_the_handlers_that_run() -> None:
    bus, entered, release = MemoryBus(), asyncio.Event(), asyncio.Event()

    async def slow(_: Empty) -> HealthReport:
        entered.set()
        await release.wait()
        return HealthReport(instances=())

    async with serve(bus, {GET_HEALTH: slow}):
        request = asyncio.create_task(call(bus, GET_HEALTH, Empty(), timeout=5))
        await entered.wait()
        asyncio.get_running_loop().call_soon(release.set)
    assert (await request).instances == ()
    await bus.drain()


async def test_a_span_per_request_is_named_after_its_endpoint_and_has_the_error() -> None:
    bus, exporter, provider = MemoryBus(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with serve(bus, HANDLERS, tracer=provider.get_tracer("test")):
        await call(bus, GET_TRACE, GetTrace(trace_id="ab"), timeout=1)
        with pytest.raises(NotFound):
            await call(bus, GET_TRACE, GetTrace(trace_id="unknown"), timeout=1)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["monitor get_trace", "monitor get_trace"]
    assert [(span.attributes or {}).get("error.type") for span in spans] == [None, "not_found"]
    await bus.drain()
