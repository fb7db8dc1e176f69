"""What `llmos trace ID` prints of spans as services make and the monitor stores them."""

import orjson
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console

from llmos.cli.trace_view import tree
from services.inference.replica.span_attributes import replica_attributes
from services.monitor.spans import decode_spans, trace_document
from shared.contracts.scheduler import ReplicaAssignment
from shared.telemetry import genai

ASSIGNMENT = ReplicaAssignment.EXAMPLE


def printed(exporter: InMemorySpanExporter) -> list[str]:
    payload = encode_spans(exporter.get_finished_spans()).SerializeToString()
    document = trace_document(span.data for span in decode_spans(payload).spans)
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(tree(orjson.loads(document), "ab" * 16))
    return capture.get().splitlines()


def test_the_replicas_of_a_request_are_named_and_a_lost_one_with_the_reason():
    exporter = InMemorySpanExporter()
    gateway = tracer("gateway", exporter)
    replica = tracer("replica", exporter)
    with gateway.start_as_current_span("POST /v1/chat/completions"), gateway.start_as_current_span("chat m") as chat:
        chat.add_event("replica lost", {genai.REPLICA: "m-1-aaaaaa", "reason": "it was restarted"})
        chat.set_attribute(genai.REPLICA, ASSIGNMENT.id)
        with replica.start_as_current_span("replica m", attributes=replica_attributes(ASSIGNMENT, "node-a")):
            pass
    lines = printed(exporter)
    [made] = [line for line in lines if "replica m " in line]
    assert f"replica={ASSIGNMENT.id}" in made
    [chat_line] = [line for line in lines if "chat m " in line]
    assert f"replica={ASSIGNMENT.id}" in chat_line
    [lost] = [line for line in lines if "replica lost" in line]
    assert "replica=m-1-aaaaaa  reason=it was restarted" in lost


def tracer(service: str, exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")
