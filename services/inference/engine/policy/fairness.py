"""Whose prompt comes next: tenants by what they were served, a tenant's own prompts by age and by length. Pure.

Between tenants it is the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI
2024): each tenant has a counter of the work done for it, the lowest goes next, and a tenant that comes back is
lifted to the level of those who stayed, so that nobody saves up. Work is counted chunk by chunk and row by row as it
is planned, not when a request starts, so two tenants with a long prompt each share the steps from the first chunk on.

A tenant that floods an idle engine has all slots when another one comes. As long as it has more than its share, and
the other less, one of its sequences per step gives its slot up: it is preempted, and goes on when a slot comes free.

Within a tenant, turns alternate: one chunk goes to the oldest prompt, the next to the one nearest to its end. Short
prompts do not wait for long ones, and long ones get at least every second chunk.
"""

from collections import deque
from collections.abc import Collection, Iterator

from services.inference.engine.sequence import Sequence

ROW_WEIGHT = 2.0
"""What one decode row counts, in prompt tokens: the paper's weights, and about what both cost on a CPU."""


class Tenant:
    """One tenant's sequences, and the work done for it."""

    __slots__ = ("alive", "name", "oldest_next", "preempted", "prefilling", "running", "served", "waiting")

    def __init__(self, name: str, served: float) -> None:
        self.name = name
        self.served = served
        """Virtual tokens."""
        self.alive = 0
        """Sequences in any state."""
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """Those in slots."""
        self.prefilling: list[Sequence] = []
        """Those in slots whose prompt is not computed yet, in the order in which they started."""
        self.preempted: list[Sequence] = []
        self.oldest_next = True

    @property
    def has_prompts(self) -> bool:
        """Whether any of its sequences is not computed as far as it was generated: some prompt is due, or a slot."""
        return bool(self.waiting or self.prefilling or self.preempted)

    @property
    def queued_tokens(self) -> int:
        """Prompt (and resumed) tokens that wait to be computed, without those that the cache is expected to give."""
        return sum(self.queued_work())

    def queued_work(self) -> Iterator[int]:
        """The tokens of each sequence that `queued_tokens` sums."""
        return (s.expected_work for each in (self.waiting, self.prefilling, self.preempted) for s in each)

    def next_prompt(self, without: Collection[Sequence], *, may_start: bool) -> Sequence | None:
        """The prompt whose turn it is, of those in slots and, if one `may_start`, of those that wait for one."""
        ready = [s for s in self.prefilling if s not in without]
        if may_start:
            ready += [s for each in (self.preempted, self.waiting) for s in each if s not in without]
        if not ready:
            return None
        return ready[0] if self.oldest_next else min(ready, key=lambda s: s.expected_work)


class Tenants:
    """All tenants with sequences alive, and the counters of those that were served more than the rest."""

    def __init__(self) -> None:
        self._active: dict[str, Tenant] = {}
        self._left: dict[str, float] = {}
        """Counters of tenants without a sequence that are above `_level`."""
        self._level = 0.0
        """Where a tenant that comes is lifted to; never falls."""

    def __len__(self) -> int:
        """Tenants with sequences alive."""
        return len(self._active)

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._active.values())

    def get(self, name: str) -> Tenant | None:
        """A tenant with sequences alive, or None."""
        return self._active.get(name)

    def join(self, sequence: Sequence, *, waits: bool = True) -> None:
        """A sequence was admitted."""
        name = sequence.request.tenant
        tenant = self._active.get(name)
        if tenant is None:
            if self._active:
                self._level = max(self._level, min(each.served for each in self))
            self._left = {each: served for each, served in self._left.items() if served > self._level}
            tenant = self._active[name] = Tenant(name, max(self._level, self._left.pop(name, 0.0)))
        tenant.alive += 1
        if waits:
            tenant.waiting.append(sequence)

    def start(self, sequence: Sequence) -> None:
        """A sequence that waited, or was preempted, has a slot."""
        tenant = self._active[sequence.request.tenant]
        if sequence in tenant.preempted:
            tenant.preempted.remove(sequence)
        else:
            tenant.waiting.remove(sequence)
        tenant.running.append(sequence)
        if sequence.prefill_left:
            tenant.prefilling.append(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """A sequence gave its slot up."""
        tenant = self._active[sequence.request.tenant]
        tenant.running.remove(sequence)
        if sequence in tenant.prefilling:
            tenant.prefilling.remove(sequence)
        tenant.preempted.append(sequence)

    def to_preempt(self, slots: int) -> Sequence | None:
        """The sequence that should give its slot up so that the tenant whose turn it is gets its share of `slots`.

        None if nobody waits, or the one whose turn it is has its share, or nobody has more than a share.
        """
        waiting = [tenant for tenant in self if tenant.waiting or tenant.preempted]
        if not waiting:
            return None
        share = slots / len(self)
        poor = min(waiting, key=lambda tenant: tenant.served)
        rich = max(self, key=lambda tenant: len(tenant.running))
        if len(poor.running) + 1 > share or len(rich.running) - 1 < share:
            return None
        return min(rich.running, key=lambda sequence: (sequence.preemptions, sequence.computed))

    def prompt_done(self, sequence: Sequence) -> None:
        """A sequence's prompt is computed."""
        self._active[sequence.request.tenant].prefilling.remove(sequence)

    def leave(self, sequence: Sequence) -> None:
        """A sequence ended, wherever it was."""
        tenant = self._active[sequence.request.tenant]
        tenant.alive -= 1
        for place in (tenant.waiting, tenant.preempted, tenant.running, tenant.prefilling):
            if sequence in place:
                place.remove(sequence)
        if not tenant.alive:
            del self._active[tenant.name]
            if not self._active:
                self._level = max(self._level, tenant.served)
            elif tenant.served > self._level:
                self._left[tenant.name] = tenant.served

    def next_prompt(self, without: Collection[Sequence], *, may_start: bool) -> Sequence | None:
        """The prompt that gets the next chunk; None if there is none but those in `without`.

        Args:
            without: Those that can't go on in this step.
            may_start: Whether a waiting one could take a slot.
        """
        for tenant in sorted(self, key=lambda each: each.served):
            sequence = tenant.next_prompt(without, may_start=may_start)
            if sequence is not None:
                return sequence
        return None

    def charge_chunk(self, sequence: Sequence, tokens: int) -> None:
        """A chunk of a prompt is planned; the tenant's next turn goes the other way."""
        tenant = self._active[sequence.request.tenant]
        tenant.served += tokens
        tenant.oldest_next = not tenant.oldest_next

    def charge_row(self, sequence: Sequence) -> None:
        """A decode row is planned. Its draft is free: it is there only where it makes all faster."""
        self._active[sequence.request.tenant].served += ROW_WEIGHT

    def check_integrity(self) -> None:
        """Raise AssertionError unless counts agree."""
        for name, tenant in self._active.items():
            assert tenant.name == name, "a tenant is kept under another name"
            placed = len(tenant.waiting) + len(tenant.preempted) + len(tenant.running)
            assert tenant.alive >= max(1, placed), "sequences are miscounted"
            assert set(tenant.prefilling) <= set(tenant.running), "a sequence prefills without a slot"
        assert not self._left.keys() & self._active.keys(), "a tenant is here and gone"
