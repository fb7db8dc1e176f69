"""The trace of a request to an encoder, made at its end with the times that the runner measured.

replica {model} ── tokenize ── queue ── compute
"""

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from services.inference.replica.encode.handler import EncodingEnded
from services.inference.replica.span_attributes import replica_attributes
from shared.contracts.scheduler import ReplicaAssignment
from shared.telemetry import genai


class EncodingSpans:
    """Makes the spans of a replica's requests."""

    def __init__(self, assignment: ReplicaAssignment, node_id: str, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("llmos.replica")
        self._name = f"replica {assignment.model}"
        self._common = replica_attributes(assignment, node_id)

    def record(self, ended: EncodingEnded, *, end_ns: int) -> None:
        """Make the spans; the request ended at `end_ns` (Unix time in nanoseconds)."""
        request = self._tracer.start_span(
            self._name,
            context=ended.context,
            kind=SpanKind.SERVER,
            start_time=ended.begun_ns,
            attributes=self._common
            | {
                genai.OPERATION_NAME: ended.operation,
                genai.REQUEST_ID: ended.request_id,
                genai.USAGE_INPUT_TOKENS: ended.tokens,
                genai.TEXTS: ended.texts,
            },
        )
        if ended.error is not None:
            request.set_attribute(genai.ERROR_TYPE, ended.error.code)
            request.set_status(Status(StatusCode.ERROR, ended.error.message))
        parent = trace.set_span_in_context(request, ended.context)
        start = ended.begun_ns
        for name, seconds in (
            ("tokenize", ended.timings.tokenize_s),
            ("queue", ended.timings.queue_s),
            ("compute", ended.timings.compute_s),
        ):
            end = min(end_ns, start + round(1e9 * seconds))
            if seconds:
                self._tracer.start_span(name, context=parent, start_time=start).end(end)
            start = end
        request.end(end_ns)
