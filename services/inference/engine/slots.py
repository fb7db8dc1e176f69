"""Which sequence has which place in the KV buffers.

Decode runs on slots 0..n-1 bound by pointer, so occupied slots must be contiguous from 0. A sequence that ends
leaves a hole; the next prompt takes the lowest hole, and `compact` closes the others by moving the highest slot down.
"""

from typing import NamedTuple

from services.inference.engine.sequence import Sequence


class Move(NamedTuple):
    """Copy the keys and values of `length` tokens from slot to slot."""

    source: int
    destination: int
    length: int


class Slots:
    """The owners of `count` slots."""

    def __init__(self, count: int) -> None:
        self._owners: list[Sequence | None] = [None] * count
        self._used = 0
        self._dirty: set[int] = set()

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
                self._dirty.add(slot)
                return slot
        raise RuntimeError("take() without a free slot")

    def release(self, sequence: Sequence) -> None:
        """Free the slot of `sequence`."""
        slot = sequence.slot
        if slot is None or self._owners[slot] is not sequence:
            raise RuntimeError(f"sequence {sequence.id} does not own slot {slot}")
        self._owners[slot] = None
        self._used -= 1
        sequence.slot = None

    def compact(self) -> list[Move]:
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
            self._dirty.add(hole)
            owner.slot = hole
            moves.append(Move(source, hole, owner.computed))
        return moves

    @property
    def has_vacated(self) -> bool:
        """Whether `vacated` would name a slot."""
        return len(self._dirty) > self._used

    def vacated(self) -> list[int]:
        """Free slots that were used since they were last named here: their memory can be given back."""
        slots = sorted(slot for slot in self._dirty if self._owners[slot] is None)
        self._dirty.difference_update(slots)
        return slots

    def check_integrity(self) -> None:
        """Raise AssertionError unless owners and counts agree."""
        occupied = self.occupied()
        assert self._used == len(occupied), "used slots are miscounted"
        assert len({id(owner) for owner in occupied}) == len(occupied), "a sequence owns two slots"
        for slot, owner in enumerate(self._owners):
            assert owner is None or owner.slot == slot, "an owner does not know its slot"
            assert owner is None or slot in self._dirty, "an occupied slot is not known to be dirty"
