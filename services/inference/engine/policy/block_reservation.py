"""Which of the blocks that a step completes are kept: reserved when it is planned, settled after it. Pure.

Full chunks are kept always: chunks begin at multiples of their size, so whoever copies one would have computed that
very chunk. A block that ends with a decode row is kept only where the decoder is batch-invariant: elsewhere a prompt
that copied it would have other bits than one that computed it (see `docs/adr/0006`). It is stored in the step that
completes it, while its slot is where it was, and so costs a step at most one copy for each row.
"""

from services.inference.engine.plan import Outcome, Plan, Store
from services.inference.engine.prefix_cache import Block, PrefixCache, block_keys
from services.inference.engine.sequence import Sequence
from shared.errors import LlmosError


class BlockReservation:
    """Reserves blocks.

    Args:
        cache: Where.
        size: Tokens of a block, and of a chunk.
        batch_invariant: Whether the decoder is (`Decoder.batch_invariant`).
    """

    def __init__(self, cache: PrefixCache, *, size: int, batch_invariant: bool) -> None:
        self._cache = cache
        self._size = size
        self.batch_invariant = batch_invariant

    def admit(self, sequence: Sequence) -> None:
        """Give a new sequence the keys of the blocks that its chunks fill."""
        self._need_keys(sequence, sequence.prefill_tokens)

    def of_chunk(self, sequence: Sequence, size: int) -> list[tuple[int, Block]]:
        """Places for those full blocks of the `size` tokens that the sequence computes next which are kept.

        Returns:
            The position of the first token of each, and the place.
        """
        kept: list[tuple[int, Block]] = []
        for start in range(sequence.computed, sequence.computed + size - self._size + 1, self._size):
            block = self._reserve(sequence, start + self._size, kept[-1][1] if kept else None)
            if block is not None:
                kept.append((start, block))
        return kept

    def of_row(self, sequence: Sequence, slot: int) -> Store | None:
        """What to store once the sequence's next token is computed as a row; None if nothing is kept."""
        end = sequence.computed + 1
        if not self.batch_invariant or end % self._size:
            return None
        self._need_keys(sequence, end)
        block = self._reserve(sequence, end)
        return None if block is None else Store(slot, end - self._size, block.index)

    def rows_before_block(self, end: int) -> int:
        """How many tokens after the first `end` of a sequence can be computed before one completes a block."""
        return self._size - 1 - end % self._size if self._cache.blocks else self._size

    def settle(self, plan: Plan, outcome: Outcome) -> None:
        """The plan was run: what was copied is free to go, and what was completed can be found."""
        for copy in plan.copies:
            self._cache.release(self._cache.at(copy.block))
        for row in plan.decode:
            if row.store is not None:
                self._settle(self._cache.at(row.store.block), failed=isinstance(outcome.decoded, LlmosError))
        for chunk, result in zip(plan.prefill, outcome.prefilled, strict=True):
            for store in chunk.stores:
                self._settle(self._cache.at(store.block), failed=isinstance(result, LlmosError))

    def _settle(self, block: Block, *, failed: bool) -> None:
        if failed:
            self._cache.abandon(block)
        else:
            self._cache.fill(block)

    def _reserve(self, sequence: Sequence, end: int, before: Block | None = None) -> Block | None:
        """A place for the block that ends with the sequence's first `end` tokens, after what was reserved before."""
        if not self._cache.blocks:
            return None
        index = end // self._size - 1
        return self._cache.reserve(sequence.keys[index], sequence.keys[index - 1] if index else None, before)

    def _need_keys(self, sequence: Sequence, end: int) -> None:
        """Have the sequence know the keys of all full blocks of its first `end` tokens."""
        if self._cache.blocks:
            keys = sequence.keys
            rest = sequence.tokens[len(keys) * self._size : end]
            salt = sequence.request.cache_salt
            keys += block_keys(rest, self._size, salt, after=keys[-1] if keys else None)
