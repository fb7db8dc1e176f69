"""Which chunks of prompts the next step computes, and which blocks it copies from the prefix cache. Pure.

Before a prompt gets a chunk, all blocks that the cache has ready for it are copied. If another sequence computes the
block that it needs next in this very step, it waits for the next step and copies the block then: of several prompts
with the same beginning, one computes and the others follow.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Chunk, Copy, Store
from services.inference.engine.policy.block_reservation import BlockReservation
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.policy.throughput import Throughput
from services.inference.engine.prefix_cache import Block, PrefixCache
from services.inference.engine.sequence import Sequence, State
from services.inference.engine.slots import Slots
from shared.contracts.load import EngineCounters


class PlannedChunk(NamedTuple):
    """A chunk to compute; the sequence's slot may still change."""

    sequence: Sequence
    size: int
    reserved: list[tuple[int, Block]]
    """The blocks to store of it, each with the position of its first token."""

    @property
    def chunk(self) -> Chunk:
        """The chunk, once the slots are final."""
        sequence, size, slot = self.sequence, self.size, self.sequence.used_slot
        start = sequence.computed
        return Chunk(
            sequence.id,
            slot,
            sequence.tokens[start : start + size],
            start,
            last=size == sequence.prefill_left,
            samples=size == sequence.remaining and sequence.request.sampling.max_tokens > 0,
            scores_prompt=sequence.request.scores_prompt,
            stores=tuple([Store(slot, first, block.index) for first, block in self.reserved]),
        )


class PlannedCopy(NamedTuple):
    """A block to copy into the sequence's slot, which may still change."""

    sequence: Sequence
    start: int
    block: Block

    @property
    def copy(self) -> Copy:
        """The copy, once the slots are final."""
        return Copy(self.block.index, self.sequence.used_slot, self.start)


class PrefillPolicy:
    """Chooses chunks and copies, and gives sequences their slots.

    Args:
        limits: Bounds of a step, and the size of a chunk.
        slots: All slots.
        tenants: Decide whose turn it is.
        cache: Blocks that are ready.
        reservation: Reserves blocks for the chosen chunks.
        throughput: Bounds the chunks of a step while streams run.
        counters: Count the tokens that are looked up in the cache and copied from it.
    """

    def __init__(
        self,
        limits: EngineLimits,
        slots: Slots,
        tenants: Tenants,
        cache: PrefixCache,
        reservation: BlockReservation,
        *,
        throughput: Throughput,
        counters: EngineCounters,
    ) -> None:
        self._limits = limits
        self._chunk = limits.prefill_chunk
        self._slots = slots
        self._tenants = tenants
        self._cache = cache
        self._reservation = reservation
        self._throughput = throughput
        self._counters = counters

    def admit(self, sequence: Sequence) -> None:
        """Note how much of a new sequence's prompt the cache holds now."""
        sequence.expected_cached = self._chunk * len(self._ready(sequence))

    def choose(self, now: float, preempted: Sequence | None) -> tuple[list[PlannedChunk], list[PlannedCopy]]:
        """Chunks of the next step, and the copies before them.

        Args:
            now: Seconds on the engine's clock.
            preempted: A sequence that gives its slot up in this step.
        """
        # Most steps have no prompts, and every stream waits for the time between two runs.
        if not any(tenant.has_prompts for tenant in self._tenants):
            return [], []
        left, longest, piece = self._budget()
        begun = self._begun_blocks()
        chunks: list[PlannedChunk] = []
        copies: list[PlannedCopy] = []
        done = {preempted} if preempted else set()
        while left > 0 and (sequence := self._tenants.next_prompt(done, may_start=self._slots.free > 0)) is not None:
            done.add(sequence)
            if sequence.state is State.PREEMPTED:
                copies += self._resume(sequence)
                left -= 1
                continue
            ready = self._ready(sequence)
            waits = sequence.state is State.WAITING
            rest = sequence.prefill_left - self._chunk * len(ready)
            size = self._size(sequence, rest, min(longest, left - waits), piece)
            follows = self._follows(sequence, len(ready), begun)
            if (waits and follows) or (not follows and size + waits > left):
                continue
            if waits:
                self._start(sequence, now)
                left -= 1
            copies += self._copy(sequence, ready)
            if not follows:
                chunks.append(PlannedChunk(sequence, size, self._reservation.of_chunk(sequence, size)))
                self._tenants.charge_chunk(sequence, size)
                left -= size
        return chunks, copies

    def _budget(self) -> tuple[int, int, int]:
        """Prompt tokens for the next step, the longest rest that is one chunk, and the longest other chunk.

        Decode rows go first. While streams run, prompts get only as many tokens as are computed in `step_s`, and less
        than two chunks each. A sequence that starts costs one token: its slot may need a padding row.
        """
        running = len(self._slots) - self._slots.free
        left = self._limits.step_tokens - running
        if running == sum(len(tenant.prefilling) for tenant in self._tenants):
            return left, left, self._chunk
        quick = self._throughput.prompt_tokens(self._limits.step_s)
        if quick is None:
            return left, 2 * self._chunk - 1, self._chunk
        if quick < self._chunk and self._reservation.batch_invariant:
            piece = max(quick, self._limits.least_piece)
            return min(left, piece + 1), piece, piece
        return min(left, max(quick, self._limits.least_prompt_tokens)), 2 * self._chunk - 1, self._chunk

    def _begun_blocks(self) -> dict[bytes, Sequence]:
        """The blocks of which earlier steps computed a part, by key, and the sequences that complete them."""
        return {
            sequence.keys[sequence.computed // self._chunk]: sequence
            for tenant in self._tenants
            for sequence in tenant.prefilling
            if sequence.computed % self._chunk and sequence.computed // self._chunk < self._readable(sequence)
        }

    def _start(self, sequence: Sequence, now: float) -> None:
        sequence.start(self._slots.take(sequence), now)
        self._tenants.start(sequence)
        self._counters.looked_up_tokens += sequence.prefill_tokens if self._reads(sequence) else 0

    def _resume(self, sequence: Sequence) -> Iterator[PlannedCopy]:
        """Give a preempted sequence a slot again; the copies that restore its keys and values."""
        blocks = sequence.resume(self._slots.take(sequence))
        self._tenants.start(sequence)
        return (PlannedCopy(sequence, index * self._chunk, block) for index, block in enumerate(blocks))

    def _size(self, sequence: Sequence, rest: int, longest: int, piece: int) -> int:
        """Tokens of the next chunk of a prompt that has `rest` tokens left.

        Each run reads all weights. So where chunks may end anywhere, a rest of up to `longest` is one chunk. Others
        have up to `piece` tokens, and end with the block at the latest.
        """
        whole = self._reservation.batch_invariant and not sequence.request.scores_prompt and rest <= longest
        return rest if whole else min(piece, self._chunk - sequence.computed % self._chunk, rest)

    def _reads(self, sequence: Sequence) -> bool:
        return bool(self._cache.blocks) and sequence.request.reads_cache

    def _readable(self, sequence: Sequence) -> int:
        """Blocks that may come from the cache instead of chunks: the last token is always computed."""
        return (sequence.prefill_tokens - 1) // self._chunk if self._reads(sequence) else 0

    def _ready(self, sequence: Sequence) -> list[Block]:
        """The blocks that can be copied next: none while one is computed in pieces."""
        first, begun = divmod(sequence.computed, self._chunk)
        return [] if begun else self._cache.find(sequence.keys[: self._readable(sequence)], first)

    def _follows(self, sequence: Sequence, ready: int, begun: Mapping[bytes, Sequence]) -> bool:
        """Whether the block after the ready ones is computed by another sequence, in this step or in pieces."""
        index = sequence.computed // self._chunk + ready
        if index >= self._readable(sequence):
            return False
        key = sequence.keys[index]
        return self._cache.is_coming(key) or begun.get(key, sequence) is not sequence

    def _copy(self, sequence: Sequence, blocks: list[Block]) -> list[PlannedCopy]:
        copies = []
        for block in blocks:
            self._cache.take(block)
            copies.append(PlannedCopy(sequence, sequence.computed, block))
            sequence.computed += self._chunk
            sequence.cached += self._chunk
            self._counters.cached_tokens += self._chunk
        return copies
