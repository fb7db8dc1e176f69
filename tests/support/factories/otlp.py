"""OTLP payloads made by hand."""

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

START = 1_795_500_000_000_000_000
"""Unix time in nanoseconds: 2026-11-24."""


def make_span(
    trace: int = 1,
    span: int = 1,
    *,
    parent: int | None = None,
    name: str = "work",
    start_ms: int = 0,
    duration_ms: int = 10,
    error: bool = False,
    padding: int = 0,
    attributes: Mapping[str, str | int] = {},
) -> Span:
    """A span; ids are small numbers."""
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=span.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        start_time_unix_nano=START + start_ms * 1_000_000,
        end_time_unix_nano=START + (start_ms + duration_ms) * 1_000_000,
        status=Status(code=Status.STATUS_CODE_ERROR) if error else None,
        attributes=[
            KeyValue(key=name, value=AnyValue(int_value=value) if isinstance(value, int) else _text(value))
            for name, value in {**({"padding": "x" * padding} if padding else {}), **attributes}.items()
        ],
    )


def _text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def make_payload(spans: Iterable[Span], *, service: str = "gateway") -> bytes:
    """An encoded `ExportTraceServiceRequest`."""
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=service))])
    scope = ScopeSpans(scope=InstrumentationScope(name="llmos.test"), spans=spans)
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])])
    return request.SerializeToString()
