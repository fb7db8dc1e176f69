"""The trace of a request to an encoder, made at its end with the times that the runner measured.

replica {model} ── tokenize ── queue ── compute
"""

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from services.inference.replica.encode.handler import FinishedRequest
from services.inference.replica.span_attributes import replica_attributes
from shared.contracts.scheduler import ReplicaAssignment
from shared.telemetry import genai


class EncodeSpans:
    """Makes the spans of a replica's requests."""

    def __init__(self, assignment: ReplicaAssignment, node_id: str, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("llmos.replica")
        self._name = f"replica {assignment.model}"
        self._common = replica_attributes(assignment, node_id)

    def record(self, finished: FinishedRequest, *, end_ns: int) -> None:
        """Make the spans; the request ended at `end_ns` (Unix time in nanoseconds)."""
        request = self._tracer.start_span(
            self._name,
            context=finished.context,
            kind=SpanKind.SERVER,
            start_time=finished.begun_ns,
            attributes=self._common
            | {
                genai.OPERATION_NAME: finished.operation,
                genai.REQUEST_ID: finished.request_id,
                genai.USAGE_INPUT_TOKENS: finished.tokens,
                genai.TEXTS: finished.texts,
            },
        )
        if finished.error is not None:
            request.set_attribute(genai.ERROR_TYPE, finished.error.code)
            request.set_status(Status(StatusCode.ERROR, finished.error.message))
        parent = trace.set_span_in_context(request, finished.context)
        start = finished.begun_ns
        for name, seconds in (
            ("tokenize", finished.timings.tokenize_s),
            ("queue", finished.timings.queue_s),
            ("compute", finished.timings.compute_s),
        ):
            end = min(end_ns, start + round(1e9 * seconds))
            if seconds:
                self._tracer.start_span(name, context=parent, start_time=start).end(end)
            start = end
        request.end(end_ns)
