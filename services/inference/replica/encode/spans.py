"""The trace of a request to an encoder, made at its end with the times that the runner measured.

replica {model} ── tokenize ── queue ── compute
"""

from services.inference.replica.encode.handler import FinishedRequest
from services.inference.replica.phase_spans import PhaseSpans
from shared.telemetry import genai


def record(spans: PhaseSpans, finished: FinishedRequest, *, end_ns: int) -> None:
    """Make the spans; the request ended at `end_ns` (Unix time in nanoseconds)."""
    spans.record(
        finished.context,
        {
            genai.OPERATION_NAME: finished.operation,
            genai.REQUEST_ID: finished.request_id,
            genai.USAGE_INPUT_TOKENS: finished.tokens,
            genai.TEXTS: finished.texts,
        },
        {
            "tokenize": finished.timings.tokenize_s,
            "queue": finished.timings.queue_s,
            "compute": finished.timings.compute_s,
        },
        begun_ns=finished.begun_ns,
        end_ns=end_ns,
        error=finished.error,
    )
