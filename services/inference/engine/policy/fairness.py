"""Which prompt comes next: between tenants by the work done for them, within a tenant by age and length. Pure.

Between tenants it is the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI
2024). Each tenant has a counter of the work done for it, and the lowest goes next. The counter of a tenant that comes
back is raised to the level of those that stayed: unused turns are not saved up. Work is counted when a chunk or row
is planned, not when a request starts, so two tenants with a long prompt each share the steps from the first chunk on.

A tenant that floods an idle engine has all slots when another one comes. While it has more than its share, and the
other less, one of its sequences per step is preempted. It continues when a slot is free.

Within a tenant, turns alternate: one chunk goes to the oldest prompt, the next to the one nearest to its end. So
short prompts do not wait for long ones, and long ones get at least every second chunk.
"""

from collections import deque
from collections.abc import Collection, Iterator

from services.inference.engine.sequence import Sequence

ROW_WEIGHT = 2.0
"""Work of one decode row, in prompt tokens: the paper's weight, and about the ratio of the times on a CPU."""


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
        """Those in slots whose prompt is not computed yet, in the order of their start."""
        self.preempted: list[Sequence] = []
        self.oldest_next = True

    @property
    def has_prompts(self) -> bool:
        """Whether any of its sequences waits for a chunk or for a slot."""
        return bool(self.waiting or self.prefilling or self.preempted)

    @property
    def queued_tokens(self) -> int:
        """Prompt (and resumed) tokens that wait to be computed, without those expected from the cache."""
        return sum(self.queued_work())

    def queued_work(self) -> Iterator[int]:
        """The tokens of each sequence that `queued_tokens` sums."""
        return (s.expected_work for each in (self.waiting, self.prefilling, self.preempted) for s in each)

    def next_prompt(self, without: Collection[Sequence], *, may_start: bool) -> Sequence | None:
        """The prompt whose turn it is, of those in slots and, if one `may_start`, of those that wait for a slot."""
        ready = [s for s in self.prefilling if s not in without]
        if may_start:
            ready += [s for each in (self.preempted, self.waiting) for s in each if s not in without]
        if not ready:
            return None
        return ready[0] if self.oldest_next else min(ready, key=lambda s: s.expected_work)


class Tenants:
    """All tenants with sequences alive, and the counters of absent tenants that were served more than the rest."""

    def __init__(self) -> None:
        self._active: dict[str, Tenant] = {}
        self._left: dict[str, float] = {}
        """Counters of tenants without a sequence that are above `_level`."""
        self._level = 0.0
        """The least counter of a tenant that comes; never falls."""

    def __len__(self) -> int:
        """Tenants with sequences alive."""
        return len(self._active)

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._active.values())

    def get(self, name: str) -> Tenant | None:
        """A tenant with sequences alive, or None."""
        return self._active.get(name)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a slot, without preempted ones."""
        return sum([len(tenant.waiting) for tenant in self])

    @property
    def queued_tokens(self) -> int:
        """Prompt (and resumed) tokens that wait to be computed, of all tenants."""
        return sum([tenant.queued_tokens for tenant in self])

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
        """A waiting or preempted sequence got a slot."""
        tenant = self._active[sequence.request.tenant]
        if sequence in tenant.preempted:
            tenant.preempted.remove(sequence)
        else:
            tenant.waiting.remove(sequence)
        tenant.running.append(sequence)
        if sequence.prefill_left:
            tenant.prefilling.append(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """A sequence lost its slot."""
        tenant = self._active[sequence.request.tenant]
        tenant.running.remove(sequence)
        if sequence in tenant.prefilling:
            tenant.prefilling.remove(sequence)
        tenant.preempted.append(sequence)

    def to_preempt(self, slots: int) -> Sequence | None:
        """The sequence to preempt, so that the tenant whose turn it is gets its share of `slots`.

        None if no sequence waits, if that tenant has its share, or if no tenant has more than its share.
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
        """A sequence ended, in any state."""
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
        """The prompt that gets the next chunk; None without one.

        Args:
            without: Prompts that can't continue in this step.
            may_start: Whether a waiting one could take a slot.
        """
        for tenant in sorted(self, key=lambda each: each.served):
            sequence = tenant.next_prompt(without, may_start=may_start)
            if sequence is not None:
                return sequence
        return None

    def charge_chunk(self, sequence: Sequence, tokens: int) -> None:
        """A chunk of a prompt is planned; the tenant's next turn goes by the other rule."""
        tenant = self._active[sequence.request.tenant]
        tenant.served += tokens
        tenant.oldest_next = not tenant.oldest_next

    def charge_row(self, sequence: Sequence) -> None:
        """A decode row is planned. Its draft is free, because it makes the whole step faster."""
        self._active[sequence.request.tenant].served += ROW_WEIGHT

    def charge_preparation(self, name: str, tokens: int) -> None:
        """A request was prepared for a tenant, with or without sequences here; alone, it took nothing from others."""
        tenant = self._active.get(name)
        if tenant is not None:
            tenant.served += tokens
        elif self._active:
            self._left[name] = max(self._level, self._left.get(name, 0.0)) + tokens

    def check_integrity(self) -> None:
        """Raise AssertionError unless counts agree."""
        for name, tenant in self._active.items():
            assert tenant.name == name, "a tenant has two names"
            placed = len(tenant.waiting) + len(tenant.preempted) + len(tenant.running)
            assert tenant.alive >= max(1, placed), "sequences are miscounted"
            assert set(tenant.prefilling) <= set(tenant.running), "a sequence prefills without a slot"
        assert not self._left.keys() & self._active.keys(), "a tenant is here and gone"
