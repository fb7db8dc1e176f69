"""Which parts of prompts the next step computes, and which it copies from the prefix cache. Pure.

Before a prompt gets a chunk, all blocks that the cache has ready for it are copied. When the block that it needs next
is being computed by another sequence in this very step, it waits for the next step and copies it then: of several
prompts that begin the same, one computes and the others follow.
"""

from collections.abc import Callable
from typing import NamedTuple

from services.inference.engine.limits import EngineLimits
from services.inference.engine.policy.block_reservation import Keeper
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.prefix_cache import Block, PrefixCache
from services.inference.engine.sequence import Sequence, State
from shared.contracts.load import EngineCounters


class Part(NamedTuple):
    """A chunk that will be computed; the sequence's slot may still change."""

    sequence: Sequence
    size: int
    kept: list[tuple[int, Block]]
    """The position of the first token of each block that is kept of it, and where."""


class Taken(NamedTuple):
    """A block that will be copied into the sequence's slot."""

    sequence: Sequence
    start: int
    block: Block


class Prompts:
    """Chooses chunks and copies.

    Args:
        limits: Size of a chunk.
        tenants: Say whose turn it is.
        cache: Blocks that are ready.
        keeper: Reserves blocks for the chosen chunks.
        counters: Tokens that are looked up in the cache and copied from it are counted there.
    """

    def __init__(
        self, limits: EngineLimits, tenants: Tenants, cache: PrefixCache, keeper: Keeper, counters: EngineCounters
    ) -> None:
        self._chunk = limits.prefill_chunk
        self._tenants = tenants
        self._cache = cache
        self._keeper = keeper
        self._counters = counters

    def expect(self, sequence: Sequence) -> None:
        """Note how much of a new sequence's prompt the cache holds now."""
        sequence.expected_cached = self._chunk * len(self._ready(sequence))

    def choose(
        self,
        left: int,
        longest: int,
        free_slots: int,
        start: Callable[[Sequence], list[Block]],
        without: Sequence | None = None,
    ) -> tuple[list[Part], list[Taken]]:
        """Chunks of at most `left` tokens in all, and the copies before them.

        Args:
            left: Tokens that the step has left. A new sequence costs one: its slot may be a passenger.
            longest: Tokens that the rest of a prompt may have to be computed in one chunk.
            free_slots: Slots for prompts that wait.
            start: Gives a waiting sequence its slot; the blocks where it was parked, if it was.
            without: A sequence that gives its slot up in this step.
        """
        parts: list[Part] = []
        copies: list[Taken] = []
        done = {without} if without else set()
        while left > 0 and (sequence := self._tenants.next_prompt(done, may_start=free_slots > 0)) is not None:
            done.add(sequence)
            if sequence.state is State.PARKED:
                blocks = start(sequence)
                copies += [Taken(sequence, index * self._chunk, block) for index, block in enumerate(blocks)]
                free_slots -= 1
                left -= 1
                continue
            ready = self._ready(sequence)
            waits = sequence.state is State.WAITING
            size = self._size(sequence, sequence.prefill_left - self._chunk * len(ready), min(longest, left - waits))
            follows = self._follows(sequence, len(ready))
            if (waits and follows) or (not follows and size + waits > left):
                continue
            if waits:
                start(sequence)
                free_slots -= 1
                left -= 1
                self._counters.looked_up_tokens += sequence.prefill_tokens if self._reads(sequence) else 0
            copies += self._take(sequence, ready)
            if not follows:
                parts.append(Part(sequence, size, self._keeper.of_chunk(sequence, size)))
                self._tenants.charge_chunk(sequence, size)
                left -= size
        return parts, copies

    def _size(self, sequence: Sequence, rest: int, longest: int) -> int:
        """Tokens of the next chunk of a prompt that has `rest` tokens left.

        Each run reads all weights. So where borders may lie anywhere, a rest of up to `longest` is one chunk.
        """
        whole = self._keeper.uniform and not sequence.scores_prompt and rest <= longest
        return rest if whole else min(self._chunk, rest)

    def _reads(self, sequence: Sequence) -> bool:
        return bool(self._cache.blocks) and sequence.request.reads_cache

    def _readable(self, sequence: Sequence) -> int:
        """Blocks that may come from the cache instead of chunks: the last token is always computed."""
        return (sequence.prefill_tokens - 1) // self._chunk if self._reads(sequence) else 0

    def _ready(self, sequence: Sequence) -> list[Block]:
        """The blocks that can be copied next."""
        first = sequence.computed // self._chunk
        return self._cache.find(sequence.keys[: self._readable(sequence)], first)

    def _follows(self, sequence: Sequence, ready: int) -> bool:
        """Whether the block after the ready ones is computed by another sequence in this step."""
        index = sequence.computed // self._chunk + ready
        return index < self._readable(sequence) and self._cache.is_coming(sequence.keys[index])

    def _take(self, sequence: Sequence, blocks: list[Block]) -> list[Taken]:
        taken = []
        for block in blocks:
            self._cache.take(block)
            taken.append(Taken(sequence, sequence.computed, block))
            sequence.computed += self._chunk
            sequence.cached += self._chunk
            self._counters.cached_tokens += self._chunk
        return taken
