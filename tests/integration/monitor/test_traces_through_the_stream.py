import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.monitor.app import app
from services.monitor.settings import Settings
from shared.bus import rpc
from shared.bus.connect import connect
from shared.contracts.base import Empty
from shared.contracts.monitor import (
    GET_HEALTH,
    GET_TRACE,
    LIST_TRACES,
    TRACES_SUBJECT,
    GetTrace,
    Heartbeat,
    ListTraces,
    TraceDocument,
    health_subject,
)
from shared.errors import InvalidInput, NotFound, Unavailable
from shared.service.context import Context
from shared.service.readiness import Readiness
from tests.support.factories.otlp import make_payload, make_span
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer

REPOSITORY = Path(__file__).parents[3]

EMITTER = """
import asyncio, sys
from opentelemetry import trace
from shared.bus.connect import connect
from shared.disk import Disk
from shared.telemetry import genai, setup
from shared.telemetry.logs import configure_logs

async def main():
    configure_logs("json", "warning")
    bus = await connect(sys.argv[1], name="emitter")
    setup.configure("gateway", "gateway-1", bus, Disk(None))
    tracer = trace.get_tracer("llmos.test")
    with tracer.start_as_current_span("chat smollm2", kind=trace.SpanKind.SERVER) as root:
        root.set_attribute(genai.USAGE_INPUT_TOKENS, 37)
        with tracer.start_as_current_span("prefill") as child:
            child.set_attribute(genai.PREFILL_S, 0.25)
            child.add_event("first token")
        await asyncio.to_thread(lambda: tracer.start_span("on another thread").end())
    print(trace.format_trace_id(root.get_span_context().trace_id), flush=True)
    if sys.argv[2] == "flush":
        await setup.shutdown()
    await asyncio.sleep(30 if sys.argv[2] == "linger" else 0)
    await bus.drain()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server():
    """A server of its own: the telemetry stream has one name."""
    with NatsServer() as started:
        yield started


@pytest.fixture
async def bus(server):
    connection = await connect(server.url, name="test")
    yield connection
    await connection.drain()


@asynccontextmanager
async def monitor(server, **settings):
    connection = await connect(server.url, name="monitor")
    context = Context("monitor", "monitor-1", connection, Readiness())
    async with app(context, Settings(**settings)):
        yield context
    await connection.drain()


async def get_trace(bus, trace_id: str | int) -> TraceDocument:
    trace_id = trace_id if isinstance(trace_id, str) else f"{trace_id:032x}"
    return await rpc.call(bus, GET_TRACE, GetTrace(trace_id=trace_id), timeout=5)


async def complete_trace(bus, trace_id: str | int, spans: int) -> TraceDocument:
    async def complete() -> TraceDocument | None:
        try:
            document = await get_trace(bus, trace_id)
        except NotFound:
            return None
        return document if document.spans == spans else None

    return await eventually(complete)


@pytest.mark.parametrize("ending", ["flush", "linger"])
async def test_spans_of_another_process_come_back_as_one_trace(server, bus, ending):
    async with monitor(server):
        emitter = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", EMITTER, server.url, ending),
            cwd=REPOSITORY,
            env={**os.environ},
            stdout=subprocess.PIPE,
        )
        assert emitter.stdout is not None
        trace_id = (await emitter.stdout.readline()).decode().strip()
        document = await complete_trace(bus, trace_id, spans=3)
        if ending == "linger":
            emitter.kill()
        await emitter.communicate()

        [resource] = json.loads(document.otlp_json)["resourceSpans"]
        process = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
        assert process["service.name"] == {"stringValue": "gateway"}
        assert process["service.instance.id"] == {"stringValue": "gateway-1"}
        spans = {span["name"]: span for span in resource["scopeSpans"][0]["spans"]}
        root, child = spans["chat smollm2"], spans["prefill"]
        assert {span["traceId"] for span in spans.values()} == {trace_id}
        assert "parentSpanId" not in root
        assert child["parentSpanId"] == spans["on another thread"]["parentSpanId"] == root["spanId"]
        assert root["kind"] == 2
        assert root["attributes"] == [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "37"}}]
        assert child["attributes"] == [{"key": "llmos.prefill_s", "value": {"doubleValue": 0.25}}]
        assert child["events"][0]["name"] == "first token"

        listed = await rpc.call(bus, LIST_TRACES, ListTraces(limit=1), timeout=5)
        assert (listed.traces[0].trace_id, listed.traces[0].name) == (trace_id, "chat smollm2")


async def test_garbage_is_skipped_and_what_follows_is_stored(server, bus):
    async with monitor(server) as context:
        await bus.publish(TRACES_SUBJECT, b"\xff\xfe garbage \x00" * 100)
        await bus.publish(TRACES_SUBJECT, b"")
        await bus.publish("llmos.v1.telemetry.logs", b"no log record either")
        await bus.publish("llmos.v1.telemetry.unheard.of", b"\x00")
        await bus.publish(health_subject("registry", "evil"), b"{not json")
        await bus.publish(TRACES_SUBJECT, make_payload([make_span(101, 1)]))
        await complete_trace(bus, 101, spans=1)
        assert context.readiness.ready


async def test_the_same_payload_twice_is_stored_once(server, bus):
    async with monitor(server):
        payload = make_payload([make_span(201, 1), make_span(201, 2, parent=1)])
        await bus.publish(TRACES_SUBJECT, payload)
        await bus.publish(TRACES_SUBJECT, payload)
        await bus.publish(TRACES_SUBJECT, make_payload([make_span(202, 1)]))
        await complete_trace(bus, 202, spans=1)
        assert (await get_trace(bus, 201)).spans == 2


async def test_over_the_limit_the_oldest_trace_goes(server, bus):
    async with monitor(server, max_spans=2):
        for trace in (301, 302, 303):
            await bus.publish(TRACES_SUBJECT, make_payload([make_span(trace, 1)]))
        await complete_trace(bus, 303, spans=1)
        await complete_trace(bus, 302, spans=1)
        with pytest.raises(NotFound, match="kept for 24 h, at most 2 spans"):
            await get_trace(bus, 301)


async def test_a_restart_loses_nothing_that_was_stored_and_catches_up(server, bus, tmp_path):
    async with monitor(server, folder=tmp_path):
        await bus.publish(TRACES_SUBJECT, make_payload([make_span(401, 1)]))
        await complete_trace(bus, 401, spans=1)
    await bus.publish(TRACES_SUBJECT, make_payload([make_span(401, 2, parent=1)]))
    async with monitor(server, folder=tmp_path):
        await complete_trace(bus, 401, spans=2)


async def test_after_kill_9_of_nats_telemetry_flows_again():
    with NatsServer() as own:
        connection = await connect(own.url, name="sender")
        async with monitor(own):
            own.kill()
            own.start()

            async def arrives() -> bool:
                await connection.publish(TRACES_SUBJECT, make_payload([make_span(501, 1)]))
                try:
                    return (await get_trace(connection, 501)).spans == 1
                except (NotFound, Unavailable):
                    return False

            await eventually(arrives, timeout=20)
        await connection.drain()


async def test_a_trace_that_is_not_there_and_a_wrong_id_are_different_errors(server, bus):
    async with monitor(server):
        with pytest.raises(NotFound, match="traces arrive within a second"):
            await get_trace(bus, "ab" * 16)
        for wrong in ("", "xyz", "ab" * 15, "ab" * 17, " " + "ab" * 15 + " ", "é" * 32):
            with pytest.raises(InvalidInput, match="expected 32 hexadecimal digits") as caught:
                await get_trace(bus, wrong)
            assert caught.value.param == "trace_id"


async def test_health_reports_every_process_with_a_heartbeat(server, bus):
    async with monitor(server):
        heartbeat = Heartbeat.EXAMPLE
        assert heartbeat is not None
        await bus.publish(health_subject(heartbeat.service, heartbeat.instance), heartbeat.encode())

        async def reported() -> bool:
            report = await rpc.call(bus, GET_HEALTH, Empty(), timeout=5)
            return [(each.heartbeat, each.up) for each in report.instances] == [(heartbeat, True)]

        await eventually(reported)
