"""One span on a decoder, as most tests compute it."""

from collections.abc import Sequence

from services.inference.engine.decoder import Decoder, Logits, Span


def prefill(decoder: Decoder, slot: int, tokens: Sequence[int], start: int = 0, *, logits: int = 1) -> Logits:
    """Compute `tokens` in a slot from position `start` on; the logits after the last `logits` tokens."""
    return decoder.compute([Span(slot, start, tokens, logits)])
