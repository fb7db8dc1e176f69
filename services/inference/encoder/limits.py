"""Bounds of an encoder's batches and queue."""

from dataclasses import dataclass

from shared.contracts.embedding import BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class EncoderLimits:
    """Bounds of a batch and of the queue. Tokens of a batch are rows times the longest row: padding counts."""

    batch_tokens: int = BATCH_TOKENS
    """Tokens of one batch at most; a longer row is computed alone."""
    fill_tokens: int = 256
    """A batch of at most this many tokens is filled with rows of any shorter length: it takes about as long."""
    max_batch: int | None = None
    """Texts of one batch at most. None: as many as its tokens allow."""
    max_delay_s: float = 0.0
    """Seconds that a text may wait for others to be computed with, while nothing is computed."""
    max_waiting: int = 192
    """Requests that may wait; below what the bus passes to one responder, so that a rejection is immediate."""
    max_queued_tokens: int = 262_144
    """Tokens that may wait to be computed; one request is always taken if none waits."""
