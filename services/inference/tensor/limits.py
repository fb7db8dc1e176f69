"""Bounds of batches of tensors and of the queue."""

from dataclasses import dataclass

from shared.contracts.tensor import DEFAULT_BATCH, MAX_QUEUED_BYTES


@dataclass(frozen=True, slots=True)
class TensorLimits:
    """Bounds of a batch and of the queue."""

    max_batch: int = DEFAULT_BATCH
    """Rows of one run at most; a request with more is computed in parts."""
    max_delay_s: float = 0.0
    """Seconds that a request may wait for others to be computed with, while nothing is computed."""
    max_waiting: int = 192
    """Requests that may wait; below what the bus passes to one responder, so that a rejection is immediate."""
    max_queued_bytes: int = MAX_QUEUED_BYTES
    """Bytes of the requests that wait; one request is always taken if none waits."""
