"""Spans of work that a record carried on, and not a call: deployments, assignments.

Soon after the request they are part of its trace: `llmos trace ID` shows a deployment's whole way. Later (a restart,
a move to another node) they are traces of their own, with a link to the request's: that may be gone by then.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from shared.contracts.origin import Origin
from shared.errors import LlmosError
from shared.telemetry import genai

JOIN = timedelta(minutes=15)
"""For so long after the request work joins its trace."""

_PROPAGATOR = TraceContextTextMapPropagator()


def origin_now(now: datetime | None = None) -> Origin | None:
    """The current trace as an origin; None: there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    if "traceparent" not in carrier:
        return None
    return Origin(traceparent=carrier["traceparent"], at=now or datetime.now(UTC))


def begin(
    tracer: Tracer,
    name: str,
    origin: Origin | None,
    attributes: Mapping[str, AttributeValue],
    *,
    start_time: int | None = None,
    now: datetime | None = None,
) -> Span:
    """A span in the origin's trace, or with a link to it. `start_time` is Unix time in nanoseconds."""
    parent, links = Context(), []
    if origin is not None:
        theirs = _PROPAGATOR.extract({"traceparent": origin.traceparent}, Context())
        if (now or datetime.now(UTC)) - origin.at < JOIN:
            parent = theirs
        else:
            links = [Link(trace.get_current_span(theirs).get_span_context())]
    return tracer.start_span(
        name, parent, kind=SpanKind.CONSUMER, attributes=attributes, links=links, start_time=start_time
    )


@contextmanager
def working(
    tracer: Tracer, name: str, origin: Origin | None, attributes: Mapping[str, AttributeValue]
) -> Iterator[Span]:
    """As `begin`, current and open while inside; an error that leaves the block is the span's."""
    span = begin(tracer, name, origin, attributes)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except LlmosError as error:
            span.set_attribute(genai.ERROR_TYPE, error.code)
            span.set_status(Status(StatusCode.ERROR, error.message))
            raise
