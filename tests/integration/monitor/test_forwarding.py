import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from services.monitor import export
from services.monitor.app import app
from services.monitor.export import Forwarder
from services.monitor.settings import Settings
from shared.bus.connect import connect
from shared.contracts.monitor import TRACES_SUBJECT
from shared.service.context import Context
from shared.service.readiness import Readiness
from tests.support.factories.otlp import make_payload, make_span
from tests.support.fakes.proxy import Proxy
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer, free_port


class Receiver(TraceServiceServicer):
    """A real OTLP receiver that keeps the names of the spans, and fails when told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failures: list[grpc.StatusCode] = []

    async def Export(self, request, context):  # noqa: N802  # the generated name
        if self.failures:
            await context.abort(self.failures.pop(0), "as told")
        self.names += [
            span.name for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return ExportTraceServiceResponse()


@asynccontextmanager
async def serving(receiver: Receiver, port: int = 0):
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(receiver, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield f"http://127.0.0.1:{bound}"
    await server.stop(grace=None)


def payload(name: str, *, padding: int = 0) -> bytes:
    return make_payload([make_span(name=name, padding=padding)])


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(export, "BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(export, "BACKOFF_MAX_S", 0.1)
    monkeypatch.setattr(export, "FORWARDING_FLUSH_S", 0.5)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
async def test_a_receiver_on_loopback_is_reached_without_the_proxy_of_the_environment(monkeypatch, variable):
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    receiver = Receiver()
    async with serving(receiver) as endpoint:
        forwarder = Forwarder(endpoint)
        async with forwarder.running():
            forwarder.offer(payload("span"))
            await eventually(lambda: receiver.names == ["span"])


async def test_a_receiver_elsewhere_is_reached_through_the_proxy_of_the_environment(monkeypatch):
    with Proxy(403) as proxy:
        monkeypatch.setenv("grpc_proxy", proxy.url)
        forwarder = Forwarder("http://collector.example.test:4317")
        async with forwarder.running():
            forwarder.offer(payload("span"))
            await eventually(lambda: "CONNECT collector.example.test:4317" in proxy.asked)


async def test_payloads_arrive_in_order():
    receiver = Receiver()
    async with serving(receiver) as endpoint:
        forwarder = Forwarder(endpoint)
        async with forwarder.running():
            for number in range(5):
                forwarder.offer(payload(f"span {number}"))
            await eventually(lambda: len(receiver.names) == 5)
    assert receiver.names == [f"span {number}" for number in range(5)]
    assert (forwarder.sent, forwarder.dropped) == (5, 0)


async def test_leaving_sends_what_is_queued():
    receiver = Receiver()
    async with serving(receiver) as endpoint:
        async with Forwarder(endpoint).running() as _:
            pass
        forwarder = Forwarder(endpoint.removeprefix("http://"))
        async with forwarder.running():
            forwarder.offer(payload("last words"))
    assert receiver.names == ["last words"]


async def test_what_can_be_tried_again_is_tried_again_and_what_cannot_is_dropped():
    receiver = Receiver()
    receiver.failures = [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    ]
    async with serving(receiver) as endpoint:
        forwarder = Forwarder(endpoint)
        async with forwarder.running():
            forwarder.offer(payload("refused at the third attempt"))
            forwarder.offer(payload("taken"))
            await eventually(lambda: receiver.names == ["taken"])
    assert (forwarder.sent, forwarder.dropped) == (1, 1)


async def test_a_receiver_that_comes_late_gets_the_newest_that_fit_the_queue():
    receiver, port = Receiver(), free_port()
    one = len(payload("span 0", padding=1000))
    forwarder = Forwarder(f"http://127.0.0.1:{port}", max_bytes=3 * one)
    async with forwarder.running():
        for number in range(6):
            forwarder.offer(payload(f"span {number}", padding=1000))
            await asyncio.sleep(0)
        assert forwarder.dropped == 3
        # A connection that gRPC's server accepts between its bind and its start may hang.
        await eventually(lambda: forwarder._failing)
        async with serving(receiver, port):
            await eventually(lambda: receiver.names == ["span 3", "span 4", "span 5"])


async def test_a_receiver_that_never_comes_hinders_nobody():
    forwarder = Forwarder(f"http://127.0.0.1:{free_port()}")
    started = asyncio.get_running_loop().time()
    async with forwarder.running():
        for _ in range(100):
            forwarder.offer(payload("lost"))
        assert asyncio.get_running_loop().time() - started < 0.5
    assert forwarder.dropped == 100


async def test_a_payload_larger_than_the_queue_is_dropped_and_counted():
    forwarder = Forwarder("127.0.0.1:1", max_bytes=10)
    forwarder.offer(payload("too large"))
    assert forwarder.dropped == 1


async def test_the_monitor_forwards_what_it_keeps_once():
    receiver = Receiver()
    with NatsServer() as server:
        bus = await connect(server.url, name="monitor")
        async with serving(receiver) as endpoint:
            context = Context("monitor", "monitor-1", bus, Readiness())
            async with app(context, Settings(otlp_endpoint=endpoint)):
                for name in ("first", "first", "second"):
                    span = make_span(span=len(name), name=name)
                    await bus.publish(TRACES_SUBJECT, make_payload([span]))
                await eventually(lambda: receiver.names == ["first", "second"])
        await bus.drain()
