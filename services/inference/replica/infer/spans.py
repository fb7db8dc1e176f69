"""The trace of a request to a graph with named tensors, made at its end with the times that the runner measured.

replica {model} ── queue ── compute
"""

from services.inference.replica.infer.handler import FinishedRequest
from services.inference.replica.phase_spans import PhaseSpans
from shared.telemetry import genai


def record(spans: PhaseSpans, finished: FinishedRequest, *, end_ns: int) -> None:
    """Make the spans; the request ended at `end_ns` (Unix time in nanoseconds)."""
    spans.record(
        finished.context,
        {
            genai.OPERATION_NAME: genai.OPERATION_INFER,
            genai.REQUEST_ID: finished.request_id,
            genai.ROWS: finished.rows,
        },
        {"queue": finished.timings.queue_s, "compute": finished.timings.compute_s},
        begun_ns=finished.begun_ns,
        end_ns=end_ns,
        error=finished.error,
    )
