"""How much an encoder takes on."""

from dataclasses import dataclass

from shared.contracts.embedding import BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class EncoderLimits:
    """Bounds of a batch and of the queue. Tokens of a batch are rows times the longest row: padding counts."""

    batch_tokens: int = BATCH_TOKENS
    """Tokens of one batch at most; a longer row is computed alone."""
    fill_tokens: int = 256
    """Up to so many tokens a batch takes rows of any shorter length: so few tokens take about as long as fewer."""
    max_waiting: int = 192
    """Requests that may wait; below what the bus hands to one responder, so that the next is told at once."""
    max_queued_tokens: int = 262_144
    """Tokens that may wait to be computed; one request is always taken if none waits."""
