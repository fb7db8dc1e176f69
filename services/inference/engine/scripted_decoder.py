"""A decoder without a model: its logits are a hash of the tokens in the slot, so a wrong slot or position shows.

Where it is not batch-invariant, the hash also covers how each token was computed: as a row, or in which chunk.
"""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.decoder import Logits, Span

_PRIME = np.uint64(0x100000001B3)
_BASIS = np.uint64(0xCBF29CE484222325)
_EMPTY = -1
_MARK = 1 << 32
"""The number of the way in which a token was computed, times this, is added to the token in its slot."""


class ScriptedDecoder:
    """Its logits are a hash of all tokens read back from the slot; no weights, no onnxruntime.

    Args:
        slots: How many sequences it holds.
        max_len: Tokens per slot.
        vocab_size: Token ids are 0..vocab_size-1.
        token_s: Seconds per token, to imitate a model's speed.
        batch_invariant: See `Decoder.batch_invariant`.
    """

    def __init__(
        self,
        *,
        slots: int = 4,
        max_len: int = 64,
        vocab_size: int = 64,
        token_s: float = 0.0,
        batch_invariant: bool = True,
    ) -> None:
        self._tokens: NDArray[np.int64] = np.full((slots, max_len), _EMPTY, dtype=np.int64)
        self._vocab_size = vocab_size
        self._token_s = token_s
        self._batch_invariant = batch_invariant
        self._ids = np.arange(vocab_size, dtype=np.uint64)
        self._blocks: NDArray[np.int64] = np.empty((0, 0), dtype=np.int64)

    @property
    def slots(self) -> int:
        """How many sequences it can hold."""
        return int(self._tokens.shape[0])

    @property
    def max_len(self) -> int:
        """Tokens per slot."""
        return int(self._tokens.shape[1])

    @property
    def vocab_size(self) -> int:
        """Token ids are 0..vocab_size-1."""
        return self._vocab_size

    @property
    def batch_invariant(self) -> bool:
        """See `Decoder.batch_invariant`."""
        return self._batch_invariant

    def used_slots(self) -> list[int]:
        """Slots that hold tokens and were not released."""
        return [slot for slot in range(self.slots) if (self._tokens[slot] != _EMPTY).any()]

    def compute(self, spans: Sequence[Span]) -> Logits:
        """See `Decoder.compute`."""
        assert self._batch_invariant or len(spans) == 1, (
            "several spans at once, in a decoder that is not batch-invariant"
        )
        assert len({span.slot for span in spans}) == len(spans), "two spans in one slot"
        logits = []
        for span in spans:
            count, end = len(span.tokens), span.start + len(span.tokens)
            assert count, "a span without tokens"
            self._tokens[span.slot, span.start : end] = np.asarray(span.tokens) + self._mark(1 + span.start, count)
            self._work(count)
            logits += [self._logits(span.slot, length) for length in range(end - span.logits + 1, end + 1)]
        return np.stack(logits) if logits else np.empty((0, self._vocab_size), np.float32)

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """See `Decoder.decode`."""
        for slot, (token, position) in enumerate(zip(tokens, positions, strict=True)):
            self._tokens[slot, position] = token + self._mark(0, 1)
        self._work(len(tokens))
        return np.stack([self._logits(slot, position + 1) for slot, position in enumerate(positions)])

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder.move`."""
        self._tokens[destination] = _EMPTY
        self._tokens[destination, :length] = self._tokens[source, :length]

    def release(self, slot: int) -> None:
        """See `Decoder.release`."""
        self._tokens[slot] = _EMPTY

    def reserve_blocks(self, count: int, tokens: int) -> None:
        """See `Decoder.reserve_blocks`."""
        self._blocks = np.full((count, tokens), _EMPTY, dtype=np.int64)

    def store(self, slot: int, start: int, block: int) -> None:
        """See `Decoder.store`."""
        tokens = self._tokens[slot, start : start + self._blocks.shape[1]]
        self._blocks[block, : len(tokens)] = tokens

    def fetch(self, block: int, slot: int, start: int) -> None:
        """See `Decoder.fetch`."""
        tokens = self._tokens[slot, start : start + self._blocks.shape[1]]
        tokens[:] = self._blocks[block, : len(tokens)]

    def close(self) -> None:
        """See `Decoder.close`."""
        self._tokens[:] = _EMPTY

    def _mark(self, begin: int, count: int) -> int:
        """Distinguishes a chunk of `count` tokens from other chunks, and from a row (0)."""
        return 0 if self._batch_invariant else (begin * self.max_len + count) * _MARK

    def _work(self, tokens: int) -> None:
        if self._token_s:
            time.sleep(self._token_s * tokens)

    def _logits(self, slot: int, length: int) -> Logits:
        """float32 [vocab_size] in [0, 8): FNV-1a over the slot's first `length` tokens, then over each id."""
        state = _BASIS
        with np.errstate(over="ignore"):
            for token in self._tokens[slot, :length].astype(np.uint64):
                state = (state ^ token) * _PRIME
            mixed = ((self._ids ^ state) * _PRIME) ^ (state >> np.uint64(29))
            mixed = (mixed ^ (mixed >> np.uint64(32))) * _PRIME
        return ((mixed >> np.uint64(40)).astype(np.float64) * 2.0**-21).astype(np.float32)
