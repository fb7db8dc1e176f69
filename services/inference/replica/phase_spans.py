"""The trace of a request with one answer, made at its end: a span of the replica, and one for each phase."""

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from services.inference.replica.span_attributes import replica_attributes
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import LlmosError
from shared.telemetry import genai


class PhaseSpans:
    """Makes the spans of a replica's requests."""

    def __init__(self, assignment: ReplicaAssignment, node_id: str, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("llmos.replica")
        self._name = f"replica {assignment.model}"
        self._common = replica_attributes(assignment, node_id)

    def record(
        self,
        context: Context,
        attributes: Mapping[str, AttributeValue],
        phases: Mapping[str, float],
        *,
        begun_ns: int,
        end_ns: int,
        error: LlmosError | None,
    ) -> None:
        """Make the spans of a request.

        Args:
            context: The trace that it belongs to.
            attributes: Of its span, besides the replica's.
            phases: Seconds of each, one after another from the beginning; those of 0 have no span.
            begun_ns: Unix time in nanoseconds.
            end_ns: The same of its end.
            error: How it ended, if not well.
        """
        request = self._tracer.start_span(
            self._name,
            context=context,
            kind=SpanKind.SERVER,
            start_time=begun_ns,
            attributes={**self._common, **attributes},
        )
        if error is not None:
            request.set_attribute(genai.ERROR_TYPE, error.code)
            request.set_status(Status(StatusCode.ERROR, error.message))
        parent = trace.set_span_in_context(request, context)
        start = begun_ns
        for name, seconds in phases.items():
            end = min(end_ns, start + round(1e9 * seconds))
            if seconds:
                self._tracer.start_span(name, context=parent, start_time=start).end(end)
            start = end
        request.end(end_ns)
