"""Work that a record carried on is found from the request that made the record."""

from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_trace_id

from shared.errors import Conflict
from shared.telemetry.origins import JOIN, begin, origin_now, working

NOW = datetime(2026, 11, 30, tzinfo=UTC)
exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("test")


def test_soon_after_the_request_work_is_part_of_its_trace() -> None:
    with tracer.start_as_current_span("deploy") as request:
        origin = origin_now(NOW)
    assert origin is not None
    assert format_trace_id(request.get_span_context().trace_id) in origin.traceparent
    span = begin(tracer, "place chat", origin, {"llmos.node": "n"}, start_time=5, now=NOW + JOIN / 2)
    span.end()
    done = exporter.get_finished_spans()[-1]
    assert done.parent is not None
    assert (done.parent.span_id, done.context.trace_id) == (
        request.get_span_context().span_id,
        request.get_span_context().trace_id,
    )
    assert (done.start_time, done.links, dict(done.attributes or {})) == (5, (), {"llmos.node": "n"})


def test_later_it_is_a_trace_of_its_own_that_leads_to_the_request() -> None:
    with tracer.start_as_current_span("deploy") as request:
        origin = origin_now(NOW)
    begin(tracer, "restart chat", origin, {}, now=NOW + JOIN).end()
    done = exporter.get_finished_spans()[-1]
    assert done.parent is None
    assert done.context.trace_id != request.get_span_context().trace_id
    assert [link.context.span_id for link in done.links] == [request.get_span_context().span_id]


def test_without_a_request_there_is_no_origin_and_the_span_is_a_root() -> None:
    assert origin_now() is None
    with tracer.start_as_current_span("something else"):
        begin(tracer, "place chat", None, {}).end()
    done = exporter.get_finished_spans()[-2]
    assert (done.name, done.parent, done.links) == ("place chat", None, ())


def test_spans_inside_are_children_and_an_error_is_the_spans() -> None:
    def fail() -> None:
        with working(tracer, "start chat", None, {}):
            tracer.start_span("load").end()
            raise Conflict("no room")

    with pytest.raises(Conflict):
        fail()
    load, start = exporter.get_finished_spans()[-2:]
    assert load.parent is not None
    assert load.parent.span_id == start.context.span_id
    assert (start.status.status_code, start.status.description) == (StatusCode.ERROR, "no room")
    assert start.attributes is not None
    assert start.attributes["error.type"] == "conflict"
