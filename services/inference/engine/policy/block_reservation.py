"""Which blocks that a step completes go into the prefix cache: reserved in its plan, settled after it ran. Pure.

Full chunks always go in: chunks begin at multiples of their size, so a prompt that copies one would have computed
that very chunk. (A chunk is cut into pieces only where the decoder is batch-invariant; its block goes in with the
last piece.) A block that ends with a decode row goes in only where the decoder is batch-invariant: elsewhere a
prompt that copied it would have other bits than one that computed it (see `docs/adr/0015`). It is stored in the step
that completes it, before its slot can change; so a step has at most one such copy for each row.
"""

from services.inference.engine.plan import Outcome, Plan, Store
from services.inference.engine.prefix_cache import Block, PrefixCache, block_keys
from services.inference.engine.sequence import Sequence
from shared.errors import LlmosError


class BlockReservation:
    """Reserves blocks.

    Args:
        cache: Holds the blocks.
        size: Tokens of a block, and of a chunk.
        batch_invariant: See `Decoder.batch_invariant`.
    """

    def __init__(self, cache: PrefixCache, *, size: int, batch_invariant: bool) -> None:
        self._cache = cache
        self._size = size
        self.batch_invariant = batch_invariant

    def admit(self, sequence: Sequence) -> None:
        """Compute the keys of the blocks that the chunks of a new sequence fill."""
        self._extend_keys(sequence, sequence.prefill_tokens)

    def of_chunk(self, sequence: Sequence, size: int) -> list[tuple[int, Block]]:
        """Reserve the blocks that the `size` tokens complete which the sequence computes next.

        Returns:
            The position of each block's first token, and the block.
        """
        reserved: list[tuple[int, Block]] = []
        first = sequence.computed - sequence.computed % self._size
        for start in range(first, sequence.computed + size - self._size + 1, self._size):
            block = self._reserve(sequence, start + self._size, reserved[-1][1] if reserved else None)
            if block is not None:
                reserved.append((start, block))
        return reserved

    def of_row(self, sequence: Sequence, slot: int) -> Store | None:
        """Reserve the block that the sequence's next token completes as a row; None if there is none to store."""
        end = sequence.computed + 1
        if not self.batch_invariant or end % self._size:
            return None
        self._extend_keys(sequence, end)
        block = self._reserve(sequence, end)
        return None if block is None else Store(slot, end - self._size, block.index)

    def rows_before_block(self, end: int) -> int:
        """How many tokens after the first `end` of a sequence can be computed before one completes a block."""
        return self._size - 1 - end % self._size if self._cache.blocks else self._size

    def settle(self, plan: Plan, outcome: Outcome) -> None:
        """The plan was run: unpin the blocks that were copied, and publish those that were completed."""
        for copy in plan.copies:
            self._cache.release(self._cache.at(copy.block))
        for row in plan.decode:
            if row.store is not None:
                self._settle(row.store, failed=isinstance(outcome.decoded, LlmosError))
        for chunk, result in zip(plan.prefill, outcome.prefilled, strict=True):
            for store in chunk.stores:
                self._settle(store, failed=isinstance(result, LlmosError))

    def _settle(self, store: Store, *, failed: bool) -> None:
        block = self._cache.at(store.block)
        if failed:
            self._cache.abandon(block)
        else:
            self._cache.fill(block)

    def _reserve(self, sequence: Sequence, end: int, before: Block | None = None) -> Block | None:
        """The block that ends with the sequence's first `end` tokens; `before` is the one reserved before it."""
        if not self._cache.blocks:
            return None
        index = end // self._size - 1
        return self._cache.reserve(sequence.keys[index], sequence.keys[index - 1] if index else None, before)

    def _extend_keys(self, sequence: Sequence, end: int) -> None:
        """Compute the keys that the sequence lacks of all full blocks of its first `end` tokens."""
        if self._cache.blocks:
            keys = sequence.keys
            rest = sequence.tokens[len(keys) * self._size : end]
            salt = sequence.request.cache_salt
            keys += block_keys(rest, self._size, salt, after=keys[-1] if keys else None)
