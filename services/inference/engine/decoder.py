"""The model as the engine sees it.

Implemented by `OnnxDecoder`, `OnnxSeq2Seq` and, without a model, by `ScriptedDecoder`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Source = NDArray[np.int64] | NDArray[np.float32]
"""What an encoder reads: token ids [E], or a log-mel spectrogram [bands, frames]."""


class Span(NamedTuple):
    """Tokens that follow one another in a slot; all tokens before them are computed, or are in the same step."""

    slot: int
    start: int
    """Position of the first."""
    tokens: Sequence[int]
    logits: int = 1
    """Number of the last tokens after which logits are returned."""


class Decoder(Protocol):
    """A decoder with `slots` places for the keys and values of up to `max_len` tokens each.

    All methods are called from one thread. Logits are views of the decoder's memory, valid until its next call.
    """

    @property
    def slots(self) -> int:
        """How many sequences it can hold."""
        ...

    @property
    def max_len(self) -> int:
        """Tokens per slot."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are 0..vocab_size-1."""
        ...

    @property
    def batch_invariant(self) -> bool:
        """Whether a token's logits, keys and values have the same bits however it is computed.

        That is: alone or with any others, as part of a span that is cut anywhere. If not, they may depend on whether
        `decode` or `compute` made them, and on the span, but still on nothing that another slot holds.
        """
        ...

    def compute(self, spans: Sequence[Span]) -> Logits:
        """Compute tokens and keep their keys and values; several spans together only where it is `batch_invariant`.

        Args:
            spans: At least one token each, in slots of their own.

        Returns:
            float32 [N, vocab_size]: the logits of each span, in the order of the spans.
        """
        ...

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Compute one token in each of the slots 0..B-1, where the decoder is not `batch_invariant`.

        Args:
            tokens: B token ids; row i belongs to slot i.
            positions: Where in its slot each token goes; all tokens before it are computed.

        Returns:
            float32 [B, vocab_size]: the logits after each token.
        """
        ...

    def move(self, source: int, destination: int, length: int) -> None:
        """Copy the keys and values of the first `length` tokens from slot to slot."""
        ...

    def release(self, slot: int) -> None:
        """Give the memory of a slot back; its content is lost."""
        ...

    def reserve_blocks(self, count: int, tokens: int) -> None:
        """Make places for `count` blocks of `tokens` tokens each, beside the slots, instead of those there were."""
        ...

    def store(self, slot: int, start: int, block: int) -> None:
        """Copy the keys and values of a slot's tokens from `start` on into a block, as far as the slot goes."""
        ...

    def fetch(self, block: int, slot: int, start: int) -> None:
        """Copy a block into a slot, so that its first token is the one at `start`, as far as the slot goes."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@runtime_checkable
class SourceDecoder(Decoder, Protocol):
    """A decoder whose sequences each have a source, which an encoder reads."""

    def encode(self, slot: int, source: Source) -> None:
        """Encode the source of the sequence that has taken `slot`, before its first token is computed."""
        ...
