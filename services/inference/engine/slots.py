"""Which sequence has which slot of the KV buffers. Pure.

A sequence that ends leaves a hole, and the next prompt takes the lowest. Where decode runs on slots 0..n-1 (a decoder
that is not batch-invariant), `compact` fills holes by moving the highest slot down.

A free slot keeps its memory for a while: a sequence that takes it meanwhile need not touch thousands of new pages.
"""

from services.inference.engine.plan import Move
from services.inference.engine.sequence import Sequence


class Slots:
    """The owners of `count` slots."""

    def __init__(self, count: int) -> None:
        self._owners: list[Sequence | None] = [None] * count
        self._used = 0
        self._vacated: dict[int, float] = {}
        """Free slots whose memory was not given back, and since when they are free."""

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def free(self) -> int:
        """Slots without an owner."""
        return len(self._owners) - self._used

    @property
    def owners(self) -> tuple[Sequence | None, ...]:
        """The owner of each slot."""
        return tuple(self._owners)

    def occupied(self) -> list[Sequence]:
        """Owners in slot order; after `compact` the one at index i has slot i."""
        return [owner for owner in self._owners if owner is not None]

    def take(self, sequence: Sequence) -> int:
        """Give the lowest free slot to `sequence`; raises RuntimeError if there is none."""
        for slot, owner in enumerate(self._owners):
            if owner is None:
                self._owners[slot] = sequence
                self._used += 1
                self._vacated.pop(slot, None)
                return slot
        raise RuntimeError("take() without a free slot")

    def release(self, sequence: Sequence, now: float) -> None:
        """Free the slot of `sequence`."""
        slot = sequence.slot
        if slot is None or self._owners[slot] is not sequence:
            raise RuntimeError(f"sequence {sequence.id} does not own slot {slot}")
        self._owners[slot] = None
        self._vacated[slot] = now
        self._used -= 1
        sequence.slot = None

    def compact(self, now: float) -> list[Move]:
        """Close all holes; the moves to make, in order. Owners' `slot` is changed at once."""
        moves: list[Move] = []
        hole = 0
        for source in range(len(self._owners) - 1, self._used - 1, -1):
            owner = self._owners[source]
            if owner is None:
                continue
            while self._owners[hole] is not None:
                hole += 1
            self._owners[hole], self._owners[source] = owner, None
            self._vacated.pop(hole, None)
            self._vacated[source] = now
            owner.slot = hole
            moves.append(Move(source, hole, owner.computed))
        return moves

    @property
    def vacated_at(self) -> float | None:
        """When the longest vacated slot became free; None without such slots."""
        return min(self._vacated.values(), default=None)

    def vacated(self, until: float) -> list[int]:
        """Slots that are free since `until` or longer, each returned once: their memory can be given back."""
        if not self._vacated:
            return []
        slots = sorted(slot for slot, since in self._vacated.items() if since <= until)
        for slot in slots:
            del self._vacated[slot]
        return slots

    def check_integrity(self) -> None:
        """Raise AssertionError unless owners and counts agree."""
        occupied = self.occupied()
        assert self._used == len(occupied), "used slots are miscounted"
        assert len({id(owner) for owner in occupied}) == len(occupied), "a sequence owns two slots"
        for slot, owner in enumerate(self._owners):
            assert owner is None or owner.slot == slot, "an owner does not know its slot"
            assert owner is None or slot not in self._vacated, "an occupied slot is taken for a free one"
