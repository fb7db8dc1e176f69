"""The trace of a finished request, made at its end from the times that the engine measured.

    replica {model} ── queue ── prefill ── decode

No tracing work is done per token; each request costs four spans at its end.
"""

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from services.inference.replica.generate.stream import FinishedRequest
from services.inference.replica.span_attributes import replica_attributes
from shared.contracts.scheduler import ReplicaAssignment
from shared.telemetry import genai


class GenerateSpans:
    """Makes the spans of a replica's requests."""

    def __init__(self, assignment: ReplicaAssignment, node_id: str, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("llmos.replica")
        self._name = f"replica {assignment.model}"
        self._common = replica_attributes(assignment, node_id)

    def record(self, finished: FinishedRequest, *, end_ns: int) -> None:
        """Make the spans; the request ended at `end_ns` (Unix time in nanoseconds)."""
        stream, timings = finished.stream, finished.timings
        request = self._tracer.start_span(
            self._name,
            context=stream.context,
            kind=SpanKind.SERVER,
            start_time=stream.accepted_ns,
            attributes=self._common | _attributes(finished),
        )
        if finished.finish.error is not None:
            request.set_attribute(genai.ERROR_TYPE, finished.finish.error.code)
            request.set_status(Status(StatusCode.ERROR, finished.finish.error.message))
        parent = trace.set_span_in_context(request, stream.context)
        # The engine's three times are counted back from the end; before them the prompt was rendered and tokenised.
        start = end_ns - round(1e9 * (timings.queue_s + timings.prefill_s + timings.decode_s))
        generated = stream.answer.tokens - stream.resumed_tokens
        for name, seconds, attributes in (
            ("queue", timings.queue_s, {}),
            (
                "prefill",
                timings.prefill_s,
                {
                    genai.PROMPT_TOKENS: stream.prompt_tokens + stream.resumed_tokens,
                    genai.CACHED_TOKENS: stream.cached_tokens,
                },
            ),
            ("decode", timings.decode_s, {genai.COMPLETION_TOKENS: generated, **_batch(finished)}),
        ):
            end = start + round(1e9 * seconds)
            phase = self._tracer.start_span(name, context=parent, start_time=start, attributes=attributes)
            phase.end(end)
            start = end
        request.end(end_ns)


def _attributes(finished: FinishedRequest) -> dict[str, AttributeValue]:
    stream, timings = finished.stream, finished.timings
    attributes: dict[str, AttributeValue] = {
        genai.REQUEST_ID: stream.request_id,
        genai.REQUEST_MAX_TOKENS: stream.max_tokens,
        genai.RESPONSE_FINISH_REASONS: [finished.finish.reason.value],
        genai.USAGE_INPUT_TOKENS: stream.prompt_tokens,
        genai.USAGE_OUTPUT_TOKENS: stream.answer.tokens,
        genai.USAGE_CACHE_READ_INPUT_TOKENS: stream.cached_tokens,
        genai.QUEUE_S: timings.queue_s,
        genai.PREFILL_S: timings.prefill_s,
        genai.DECODE_S: timings.decode_s,
    }
    if stream.resumed_tokens:
        attributes[genai.RESUMED_TOKENS] = stream.resumed_tokens
    generated = stream.answer.tokens - stream.resumed_tokens
    if generated > 1 and timings.decode_s > 0:
        # The first token comes from the prefill.
        attributes[genai.TOKENS_PER_SECOND] = (generated - 1) / timings.decode_s
    return attributes


def _batch(finished: FinishedRequest) -> dict[str, AttributeValue]:
    stream = finished.stream
    if not stream.steps:
        return {}
    return {genai.BATCH_MAX: stream.batch_max, genai.BATCH_MEAN: stream.batch_sum / stream.steps}
