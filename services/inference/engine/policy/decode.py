"""Which decode rows the next step computes. Pure."""

from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import DecodeRow
from services.inference.engine.policy.block_reservation import BlockReservation
from services.inference.engine.policy.draft_lengths import DraftLengths
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.sequence import Sequence, State
from services.inference.engine.slots import Slots


class DecodePolicy:
    """Gives every sequence in DECODE its row.

    Args:
        limits: Bounds of drafts.
        slots: All slots.
        tenants: Count the rows.
        reservation: Reserves blocks for the rows that complete one.
    """

    def __init__(self, limits: EngineLimits, slots: Slots, tenants: Tenants, reservation: BlockReservation) -> None:
        self._slots = slots
        self._tenants = tenants
        self._reservation = reservation
        self._draft_lengths = DraftLengths(limits, reservation, slots=len(slots))

    def admit(self, sequence: Sequence) -> None:
        """Prepare drafts for a new sequence, if it may have any."""
        self._draft_lengths.admit(sequence)

    def choose(self, *, alone: bool) -> tuple[DecodeRow, ...]:
        """The rows of the next step; with drafts if they are computed `alone`, without a chunk."""
        batch_invariant = self._reservation.batch_invariant
        occupied = self._slots.occupied()
        while occupied and occupied[-1].state is not State.DECODE:
            occupied.pop()
        rows, decoding = list[DecodeRow](), list[Sequence]()
        for s in occupied:
            slot, position = s.used_slot, s.computed
            if s.state is State.DECODE:
                self._tenants.charge_row(s)
                store = self._reservation.of_row(s, slot)
                rows.append(DecodeRow(s.id, slot, s.tokens[position], position, s.remaining == 1, store))
                decoding.append(s)
            elif not batch_invariant:
                rows.append(DecodeRow(None, slot, 0, position))
        if alone and batch_invariant:
            self._draft_lengths.propose(rows, decoding)
        return tuple(rows)
