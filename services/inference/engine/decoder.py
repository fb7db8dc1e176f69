"""What the engine asks of a model. `runtime.decoder.OnnxDecoder` and `sample.SampleDecoder` are one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


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
    def uniform(self) -> bool:
        """Whether a token's logits, keys and values have the same bits however it is computed.

        That is: as a decode row alone or in any batch, or in a chunk that is cut anywhere. If not, they may depend on
        whether it was a row or in a chunk, and on the chunk, but still on nothing that another slot holds.
        """
        ...

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Compute one token in each of the slots 0..B-1.

        Args:
            tokens: B token ids; row i belongs to slot i.
            positions: Where in its slot each token goes; all tokens before it are computed.

        Returns:
            float32 [B, vocab_size]: the logits after each token.
        """
        ...

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, *, last: bool, every: bool = False
    ) -> Logits | None:
        """Compute a chunk of tokens in one slot.

        Args:
            slot: Where.
            tokens: S token ids, at positions start..start+S-1.
            start: How many tokens of the slot are computed already.
            last: Whether the logits after the last token are wanted.
            every: Whether the logits after each of the tokens are wanted.

        Returns:
            float32 [S, vocab_size] if `every`, else [1, vocab_size] if `last`, else None.
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
