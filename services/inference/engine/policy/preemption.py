"""Preemption: a tenant with more than its share of slots gives one up to a tenant with less. Pure."""

from services.inference.engine.plan import Store
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.prefix_cache import PrefixCache
from services.inference.engine.sequence import Sequence
from services.inference.engine.slots import Slots


class Preemption:
    """Takes slots from sequences.

    Args:
        slots: All slots.
        tenants: Choose the sequence.
        cache: Has blocks for the keys and values of the sequence.
        size: Tokens of a block.
    """

    def __init__(self, slots: Slots, tenants: Tenants, cache: PrefixCache, *, size: int) -> None:
        self._slots = slots
        self._tenants = tenants
        self._cache = cache
        self._size = size

    def preempt(self, now: float) -> tuple[Sequence | None, tuple[Store, ...]]:
        """Preempt at most one sequence.

        Returns:
            The sequence, and the copies that save its keys and values.
        """
        sequence = None if self._slots.free else self._tenants.to_preempt(len(self._slots))
        blocks = None if sequence is None else self._cache.reserve_preempted(-(-sequence.computed // self._size))
        if sequence is None or blocks is None:
            return None, ()
        stores = tuple(
            [Store(sequence.used_slot, index * self._size, block.index) for index, block in enumerate(blocks)]
        )
        self._slots.release(sequence, now)
        sequence.preempt(blocks)
        self._tenants.preempt(sequence)
        return sequence, stores
