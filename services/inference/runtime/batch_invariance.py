"""A probe for batch invariance: whether a decoder gives a token the same bits however it computes it.

Batch invariance follows from a graph's operators and from how they were compiled for this processor. So it is tested
on logits, keys and values, not derived from the graph. LLMOS's own operators have it; other graphs may have it as
well.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.decoder import Decoder, Logits, Span

_TOKENS = 8
"""Enough for whole tiles of rows in kernels, and for a rest."""
_CUT = 3
_ROWS = 3
_CONTEXT = 280
"""Tokens before those that are compared: kernels of attention add long sums in parts."""

Read = Callable[[int, int, int], NDArray[Any]]
"""(slot, start, count) -> the keys and values of a slot's tokens from `start` on."""


def probe_tokens(decoder: Decoder) -> list[int]:
    """Some tokens from all over the vocabulary, as many as fit a slot."""
    tokens: list[int] = np.linspace(0, decoder.vocab_size - 1, _TOKENS, dtype=np.int64).tolist()
    return tokens[: decoder.max_len]


def is_batch_invariant(decoder: Decoder, read: Read) -> bool:
    """Whether logits, keys and values of some tokens are equal to the bit in one span, in two, alone and with others.

    At the beginning of a slot and after a context, which costs next to nothing: copies of a few keys and values.
    Leaves its slots released, and one block reserved.
    """
    tokens = probe_tokens(decoder)
    rows = min(_ROWS, decoder.slots)
    batch_invariant = _Probe(decoder, read, tokens, 0).chunks_agree()
    if batch_invariant:
        start = min(_CONTEXT, decoder.max_len - len(tokens))
        decoder.reserve_blocks(1, len(tokens))
        decoder.store(0, 0, 0)
        for copy in range(0, start, len(tokens)):
            decoder.fetch(0, 0, copy)
        probe = _Probe(decoder, read, tokens, start)
        batch_invariant = probe.chunks_agree() and probe.lone_tokens_agree() and probe.neighbours_agree(rows)
    for slot in range(rows):
        decoder.release(slot)
    return batch_invariant


class _Probe:
    """Computes all tokens in one chunk, and compares other ways with that."""

    def __init__(self, decoder: Decoder, read: Read, tokens: list[int], start: int) -> None:
        self._decoder = decoder
        self._read = read
        self._tokens = tokens
        self._start = start
        self._logits = self._chunk(0, len(tokens))
        self._computed = read(0, start, len(tokens)).copy()

    def chunks_agree(self) -> bool:
        """Whether two spans, one after the other, give the same."""
        cut = min(_CUT, len(self._tokens) - 1)
        logits = [self._chunk(begin, end) for begin, end in ((0, cut), (cut, len(self._tokens))) if end > begin]
        return np.array_equal(np.concatenate(logits), self._logits) and self._keeps(0)

    def lone_tokens_agree(self) -> bool:
        """Whether a token alone does: the first, one in the middle, and the last."""
        last = len(self._tokens) - 1
        return all(self._spans_agree([(0, at, at + 1)]) for at in (0, last // 2, last)) and self._keeps(0)

    def neighbours_agree(self, slots: int) -> bool:
        """Whether single tokens of some slots do, each at another position, and many of one slot beside those."""
        for slot in range(1, slots):
            self._decoder.move(0, slot, self._start + len(self._tokens))
        places = [(5 + 3 * slot) % len(self._tokens) for slot in range(slots)]
        single = [(slot, at, at + 1) for slot, at in enumerate(places)]
        agree = self._spans_agree(single) and self._spans_agree([*single[:-1], (slots - 1, 0, len(self._tokens))])
        return agree and all(self._keeps(slot) for slot in range(slots))

    def _spans_agree(self, spans: list[tuple[int, int, int]]) -> bool:
        """Whether (slot, begin, end) of the tokens, computed together, have the logits that they had."""
        logits = self._decoder.compute([self._span(*span) for span in spans])
        return np.array_equal(logits, np.concatenate([self._logits[begin:end] for _, begin, end in spans]))

    def _chunk(self, begin: int, end: int) -> Logits:
        return self._decoder.compute([self._span(0, begin, end)]).copy()

    def _span(self, slot: int, begin: int, end: int) -> Span:
        return Span(slot, self._start + begin, self._tokens[begin:end], logits=end - begin)

    def _keeps(self, slot: int) -> bool:
        return np.array_equal(self._read(slot, self._start, len(self._tokens)), self._computed)
