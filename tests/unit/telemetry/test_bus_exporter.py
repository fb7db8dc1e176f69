import asyncio
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from structlog.testing import capture_logs

from shared.bus.memory.bus import MemoryBus
from shared.contracts.monitor import TRACES_SUBJECT
from shared.disk import Disk, DiskUse
from shared.telemetry.exporter import BoundedSpanProcessor, BusSpanExporter, Drops
from tests.support.harness.wait import eventually


@pytest.fixture
async def bus():
    bus = MemoryBus()
    yield bus
    await bus.drain()


@pytest.fixture
async def payloads(bus):
    received: list[bytes] = []

    def keep(message):
        received.append(message.data)

    subscription = await bus.subscribe(TRACES_SUBJECT, keep)
    yield received
    await subscription.unsubscribe()


def names(payloads):
    return [
        span.name
        for payload in payloads
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def ended_spans(count, *, padding=0):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("llmos.test")
    spans = []
    for number in range(count):
        span = tracer.start_span(f"span {number}", attributes={"padding": "x" * padding})
        span.end()
        spans.append(span)
    return spans


async def export(exporter, spans):
    return await asyncio.to_thread(exporter.export, spans)


async def test_a_batch_is_one_message(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None))
    assert await export(exporter, ended_spans(3)) is SpanExportResult.SUCCESS
    await eventually(lambda: names(payloads) == ["span 0", "span 1", "span 2"])
    assert len(payloads) == 1


class FullDisk(Disk):
    """Has room for changes, and none for telemetry."""

    def why_not(self, use):
        return "too little is free" if use is DiskUse.TELEMETRY else None


async def test_while_the_disk_has_little_room_spans_are_dropped_and_the_log_says_why(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), FullDisk(None))
    with capture_logs() as logs:
        assert await export(exporter, ended_spans(3)) is SpanExportResult.FAILURE
    assert exporter.drops.total == 3
    assert [line["why"] for line in logs] == ["too little is free"]
    assert payloads == []


async def test_a_batch_above_the_limit_is_split_and_nothing_is_lost(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None), max_payload=4096)
    assert await export(exporter, ended_spans(20, padding=1000)) is SpanExportResult.SUCCESS
    await eventually(lambda: names(payloads) == [f"span {number}" for number in range(20)])
    assert all(len(payload) <= 4096 for payload in payloads)
    assert exporter.drops.total == 0


async def test_a_span_that_is_too_large_alone_is_dropped_counted_and_said(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None), max_payload=4096)
    small, large = ended_spans(1), ended_spans(1, padding=10_000)
    with capture_logs() as logs:
        assert await export(exporter, [*small, *large, *small]) is SpanExportResult.FAILURE
    await eventually(lambda: names(payloads) == ["span 0", "span 0"])
    assert exporter.drops.total == 1
    assert logs[0]["event"] == "telemetry.dropped"
    assert "the limit is 4096" in logs[0]["why"]


async def test_while_the_bus_is_down_spans_are_dropped_and_counted_at_once(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None))
    bus.broker.stop()
    started = time.monotonic()
    assert await export(exporter, ended_spans(7)) is SpanExportResult.FAILURE
    assert time.monotonic() - started < 0.5
    assert exporter.drops.total == 7
    bus.broker.start()
    assert await export(exporter, ended_spans(1)) is SpanExportResult.SUCCESS
    await eventually(lambda: names(payloads) == ["span 0"])


async def test_a_busy_event_loop_costs_the_spans_and_not_the_process(bus, monkeypatch):
    monkeypatch.setattr("shared.telemetry.exporter.TELEMETRY_PUBLISH_S", 0.05)
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None))
    # On the loop's own thread the publication cannot make progress: as if the loop were blocked.
    assert exporter.export(ended_spans(2)) is SpanExportResult.FAILURE
    assert exporter.drops.total == 2


async def test_after_the_event_loop_has_ended_spans_are_dropped_without_an_error(bus):
    loop = asyncio.new_event_loop()
    loop.close()
    exporter = BusSpanExporter(bus, loop, Disk(None))
    assert await export(exporter, ended_spans(2)) is SpanExportResult.FAILURE
    assert exporter.drops.total == 2


async def test_nothing_is_sent_after_the_time_to_flush(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None))
    exporter.close_by(time.monotonic())
    assert await export(exporter, ended_spans(2)) is SpanExportResult.FAILURE
    assert (exporter.drops.total, payloads) == (2, [])


async def test_a_full_queue_drops_new_spans_and_blocks_nobody(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None))
    processor = BoundedSpanProcessor(exporter, max_queue=4, batch=4, delay_s=60.0)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("llmos.test")
    started = time.monotonic()
    for number in range(10):  # the export thread cannot send while the loop runs this
        tracer.start_span(f"span {number}").end()
    assert time.monotonic() - started < 1.0
    assert exporter.drops.total == 6
    await asyncio.to_thread(provider.shutdown)
    await eventually(lambda: names(payloads) == [f"span {number}" for number in range(4)])


async def test_a_span_leaves_within_the_delay_and_the_queue_has_space_again(bus, payloads):
    exporter = BusSpanExporter(bus, asyncio.get_running_loop(), Disk(None))
    provider = TracerProvider(shutdown_on_exit=False)
    processor = BoundedSpanProcessor(exporter, max_queue=1, batch=1, delay_s=0.05)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("llmos.test")
    for number in range(3):
        tracer.start_span(f"span {number}").end()
        await eventually(lambda number=number: len(names(payloads)) == number + 1 and processor._pending == 0)
    assert exporter.drops.total == 0
    await asyncio.to_thread(provider.shutdown)


def test_losses_are_said_now_and_then_with_their_number():
    now = [0.0]
    drops = Drops("spans", clock=lambda: now[0])
    with capture_logs() as logs:
        drops.count(1, "full")
        drops.count(5, "full")
        now[0] = 11.0
        drops.count(2, "down")
    assert [(line["dropped"], line["dropped_in_all"], line["why"]) for line in logs] == [
        (1, 1, "full"),
        (7, 8, "down"),
    ]
