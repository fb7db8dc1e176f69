"""Which sequences the next step advances: pure and synchronous, no clock, no I/O.

    admit() -> queue          plan() -> Plan          (the engine runs it)          apply() -> updates

A step advances every running sequence by one token, then computes prompt chunks with the rest of the budget. A
sequence's answer is as if it were alone and never interrupted. Where the decoder is uniform that needs nothing: a
step is one run, wherever its slots lie; a short rest of a prompt goes with the chunk before where the step has room,
and tokens that were generated elsewhere are computed in chunks as well. Elsewhere chunks of a prompt always have the
same sizes, whatever else runs, and such tokens are computed again as decode rows, as the first time. (Kernels for
rows and for chunks may round differently, and activations quantised to int8 turn a last bit into another answer.)
"""

from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Chunk, Copy, Outcome, Plan, Row, Store
from services.inference.engine.policy.admission import Admission, check_request
from services.inference.engine.policy.block_reservation import Keeper
from services.inference.engine.policy.draft_lengths import Drafts
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.policy.prefill import Part, Prompts, Taken
from services.inference.engine.policy.throughput import Pace
from services.inference.engine.prefix_cache import Block, PrefixCache
from services.inference.engine.sequence import Sequence, SequenceRequest, SequenceUpdate, State
from services.inference.engine.slots import Slots
from shared.contracts.gateway import FinishReason
from shared.contracts.load import EngineCounters
from shared.errors import Conflict, LlmosError


class Batcher:
    """The state of all sequences. One mutator: whoever owns it calls from one thread at a time.

    Args:
        slots: Of the decoder, as the next two.
        max_len: Tokens per slot.
        vocab_size: Token ids are 0..vocab_size-1.
        limits: Bounds of a step, of the queue and of the prefix cache.
        uniform: Whether a token has the same bits however it is computed.
    """

    def __init__(
        self, *, slots: int, max_len: int, vocab_size: int, limits: EngineLimits, uniform: bool = False
    ) -> None:
        limits.check(slots=slots)
        self._uniform = uniform
        self._max_len = max_len
        self._vocab_size = vocab_size
        self._limits = limits
        self._slots = Slots(slots)
        self._sequences: dict[str, Sequence] = {}
        self._tenants = Tenants()
        self._pace = Pace()
        self._cache = PrefixCache(limits.cache_blocks)
        self._keeper = Keeper(self._cache, size=limits.prefill_chunk, uniform=uniform)
        self._drafts = Drafts(limits, self._keeper, slots=slots)
        self.counters = EngineCounters()
        """What was counted since the start, here and by the engine."""
        self._prompts = Prompts(limits, self._tenants, self._cache, self._keeper, self.counters)
        self._admission = Admission(limits, self._tenants, self._pace, slots=slots)
        self._cancelled: set[str] = set()
        self._complete: list[Sequence] = []

    @property
    def sequences(self) -> dict[str, Sequence]:
        """All that are alive, by id."""
        return self._sequences

    def idle_s(self, now: float) -> float | None:
        """Seconds until `plan` gives something to do or to tell; None: not before a request comes."""
        if self._sequences:
            return 0.0
        since = self._slots.vacated_at
        return None if since is None else max(0.0, since + self._limits.keep_slot_s - now)

    @property
    def waiting(self) -> int:
        """Sequences in the queue, those that gave their slot up included."""
        return sum(len(tenant.waiting) + len(tenant.parked) for tenant in self._tenants)

    @property
    def running(self) -> int:
        """Sequences in slots."""
        return len(self._slots) - self._slots.free

    @property
    def free_slots(self) -> int:
        """Slots without a sequence."""
        return self._slots.free

    @property
    def queued_tokens(self) -> int:
        """Prompt (and resumed) tokens not yet computed, of sequences in the queue and in prefill."""
        return sum(tenant.queued_tokens for tenant in self._tenants)

    @property
    def cached_blocks(self) -> int:
        """Blocks that the prefix cache holds now."""
        return len(self._cache)

    def wait_s(self) -> float:
        """Seconds that a request of a tenant with nothing in the queue would probably wait."""
        return self._admission.wait_s("", free_slots=self.free_slots)

    def admit(self, request: SequenceRequest, now: float) -> None:
        """Put a request into the queue.

        Raises:
            InvalidInput: The prompt is empty or has a token id that the vocabulary lacks.
            ContextLengthExceeded: Prompt and max_tokens together do not fit a slot.
            Conflict: A sequence with this id is alive.
            Overloaded: The queue is at its bound, in sequences, in tokens or in time.
        """
        check_request(request, vocab_size=self._vocab_size, max_len=self._max_len)
        if request.request_id in self._sequences:
            raise Conflict(f"request {request.request_id} is running already")
        sequence = Sequence(request, now, uniform=self._uniform)
        self._keeper.admit(sequence)
        self._drafts.admit(sequence)
        complete = sequence.reason_to_end() is not None
        if complete:
            self._complete.append(sequence)
        else:
            self._prompts.expect(sequence)
            self._admission.check_room(sequence, free_slots=self.free_slots)
        self._tenants.join(sequence, waits=not complete)
        self._sequences[sequence.id] = sequence

    def check_queue(self, tenant: str) -> None:
        """Raise `Overloaded` if a tenant's next request would not be taken, whatever it asks."""
        self._admission.check_queue(tenant, free_slots=self.free_slots)

    def cancel(self, request_id: str) -> bool:
        """End a sequence at the next `plan` or `apply`, whichever comes first; False if none has this id."""
        if request_id not in self._sequences:
            return False
        self._cancelled.add(request_id)
        return True

    def plan(self, now: float) -> tuple[Plan, list[SequenceUpdate]]:
        """The next step, and the sequences that end without one (cancelled, or complete when they came)."""
        updates = self._end_cancelled(now)
        updates += [self._finish(s, reason, now) for s in list(self._complete) if (reason := s.reason_to_end())]
        parked, stores = self._park(now)
        parts, copies = self._choose_prompts(now, parked)
        moves = [] if self._uniform else self._slots.compact(now)
        plan = Plan(
            stores,
            tuple(moves),
            tuple(self._slots.vacated(now - self._limits.keep_slot_s)),
            tuple([Copy(block, _slot(sequence), start) for sequence, start, block in copies]),
            self._plan_decode(alone=not parts),
            tuple([_chunk(part) for part in parts]),
        )
        return plan, updates

    def apply(self, plan: Plan, outcome: Outcome, now: float) -> list[SequenceUpdate]:
        """Take the results of a plan in; what to tell. Cancelled sequences end here and get no token."""
        updates = self._end_cancelled(now)
        self._keeper.settle(plan, outcome)
        self._pace.measure_step(
            prompt_tokens=plan.prompt_tokens,
            prefill_s=outcome.prefill_s,
            decode_s=outcome.decode_s,
        )
        for index, row in enumerate(plan.decode):
            if row.sequence is not None and row.sequence.state is State.DECODE:
                updates += self._apply_row(row.sequence, index, outcome, now)
        for chunk, result in zip(plan.prefill, outcome.prefilled, strict=True):
            if chunk.sequence.state is State.PREFILL:
                updates += self._apply_chunk(chunk, result, outcome, now)
        return updates

    def fail_all(self, error: LlmosError, now: float) -> list[SequenceUpdate]:
        """End every sequence with `error`."""
        return [self._fail(sequence, error, now) for sequence in list(self._sequences.values())]

    def check_integrity(self, *, between_steps: bool = True) -> None:
        """Raise AssertionError unless queue, slots, tenants, cache and states agree.

        Args:
            between_steps: Whether no plan waits for its `apply`.
        """
        self._slots.check_integrity()
        self._tenants.check_integrity()
        self._cache.check_integrity(between_steps=between_steps)
        alive = self._sequences.values()
        waiting = {id(sequence) for tenant in self._tenants for sequence in tenant.waiting}
        prefilling = {id(sequence) for tenant in self._tenants for sequence in tenant.prefilling}
        parked = {id(sequence) for tenant in self._tenants for sequence in tenant.parked}
        complete = set(map(id, self._complete))
        for sequence in alive:
            state = sequence.state
            assert state is not State.FINISHED, "a finished sequence is still known"
            in_queue = id(sequence) in waiting or id(sequence) in complete
            assert (state is State.WAITING) == in_queue, "state and queue disagree"
            assert (state in (State.WAITING, State.PARKED)) == (sequence.slot is None), "state and slot disagree"
            assert (state is State.PARKED) == (id(sequence) in parked), "state and tenant disagree"
            assert (state is State.PREFILL) == (id(sequence) in prefilling), "state and tenant disagree"
            assert sequence.remaining >= 1, "an alive sequence has nothing left to compute"
            if state is not State.PARKED:
                assert (state < State.DECODE) == (sequence.prefill_left > 0), "state and computed tokens disagree"
            assert len(sequence.tokens) <= self._max_len, "a sequence outgrew its slot"
            assert sequence.cached <= sequence.computed, "more was copied than is computed"
        assert len(alive) == len(waiting) + len(parked) + len(complete) + self.running, "a sequence is lost"
        assert len(alive) == sum(tenant.alive for tenant in self._tenants), "a tenant's sequences are miscounted"
        assert self._cancelled <= self._sequences.keys(), "a cancelled sequence is not known"

    def _choose_prompts(self, now: float, parked: Sequence | None) -> tuple[list[Part], list[Taken]]:
        """What the step does for prompts. Most steps have none, and what lies between two runs costs every stream."""
        if not any(tenant.has_prompts for tenant in self._tenants):
            return [], []
        return self._prompts.choose(
            *self._budget(), self._slots.free, lambda sequence: self._start(sequence, now), parked
        )

    def _budget(self) -> tuple[int, int]:
        """Prompt tokens for the next step, and those of the longest chunk that ends a prompt.

        That is what the decode rows leave; while streams wait, what is quick, and less than two chunks.
        """
        left = self._limits.step_tokens - self.running
        if self.running == sum(len(tenant.prefilling) for tenant in self._tenants):
            return left, left
        quick = self._pace.prompt_tokens(self._limits.step_s)
        left = left if quick is None else min(left, max(quick, self._limits.least_prompt_tokens))
        return left, 2 * self._limits.prefill_chunk - 1

    def _start(self, sequence: Sequence, now: float) -> list[Block]:
        """Give it a slot; the blocks to copy into it if it was parked."""
        slot = self._slots.take(sequence)
        if sequence.state is State.PARKED:
            blocks = sequence.unpark(slot)
        else:
            sequence.start(slot, now)
            blocks = []
        self._tenants.start(sequence)
        return blocks

    def _park(self, now: float) -> tuple[Sequence | None, tuple[Store, ...]]:
        """Take the slot of a sequence whose tenant has too many, if another tenant has too few."""
        sequence = None if self._slots.free else self._tenants.to_park(len(self._slots))
        size = self._limits.prefill_chunk
        blocks = None if sequence is None else self._cache.park(-(-sequence.computed // size))
        if sequence is None or blocks is None:
            return None, ()
        stores = tuple(Store(_slot(sequence), index * size, block) for index, block in enumerate(blocks))
        self._slots.release(sequence, now)
        sequence.park(blocks)
        self._tenants.park(sequence)
        return sequence, stores

    def _plan_decode(self, *, alone: bool) -> tuple[Row, ...]:
        """The rows of a step; with drafts if no chunk is computed with them."""
        occupied = self._slots.occupied()
        while occupied and occupied[-1].state is not State.DECODE:
            occupied.pop()
        rows = []
        for s in occupied:
            slot = _slot(s)
            if s.state is State.DECODE:
                self._tenants.charge_row(s)
                rows.append(Row(s, slot, s.tokens[s.computed], s.computed, self._keeper.of_row(s, slot)))
            elif not self._uniform:
                rows.append(Row(None, slot, 0, s.computed))
        if alone:
            self._drafts.give(rows)
        return tuple(rows)

    def _apply_row(self, sequence: Sequence, index: int, outcome: Outcome, now: float) -> list[SequenceUpdate]:
        result = outcome.decoded if isinstance(outcome.decoded, LlmosError) else outcome.decoded[index]
        if isinstance(result, LlmosError):
            return [self._fail(sequence, result, now)]
        if sequence.remaining > 1:
            sequence.computed += 1
            return []
        return [self._advance(sequence, result, outcome, now)]

    def _apply_chunk(
        self, chunk: Chunk, result: int | LlmosError | None, outcome: Outcome, now: float
    ) -> list[SequenceUpdate]:
        sequence = chunk.sequence
        if isinstance(result, LlmosError):
            return [self._fail(sequence, result, now)]
        sequence.computed += len(chunk.tokens)
        if chunk.last:
            sequence.move_to(State.DECODE)
            self._tenants.prompt_done(sequence)
        scores = outcome.scores.prompt.get(sequence.id, ())
        if result is not None:
            update = self._advance(sequence, (result,), outcome, now)
        elif chunk.last and (reason := sequence.reason_to_end()):
            update = self._finish(sequence, reason, now)
        elif scores:
            update = _update(sequence, ())
        else:
            return []
        update.prompt_scores = scores
        return [update]

    def _advance(self, sequence: Sequence, tokens: tuple[int, ...], outcome: Outcome, now: float) -> SequenceUpdate:
        """Add tokens that were chosen one after the other, up to the one that ends it; all but the last have keys."""
        for count, token in enumerate(tokens, 1):
            sequence.computed = len(sequence.tokens)
            if reason := sequence.append(token, now, newest=count == len(tokens)):
                update = self._finish(sequence, reason, now, tokens[:count])
                break
        else:
            update = _update(sequence, tokens)
        update.scores = outcome.scores.chosen.get(sequence.id, ())[: len(update.token_ids)]
        return update

    def _end_cancelled(self, now: float) -> list[SequenceUpdate]:
        if not self._cancelled:
            return []
        cancelled = [self._sequences[request_id] for request_id in sorted(self._cancelled)]
        return [self._finish(sequence, FinishReason.CANCELLED, now) for sequence in cancelled]

    def _fail(self, sequence: Sequence, error: LlmosError, now: float) -> SequenceUpdate:
        update = self._finish(sequence, FinishReason.ERROR, now)
        update.error = error
        return update

    def _finish(
        self, sequence: Sequence, reason: FinishReason, now: float, tokens: tuple[int, ...] = ()
    ) -> SequenceUpdate:
        """The only way out: forgets the sequence and frees what it holds."""
        del self._sequences[sequence.id]
        self._cancelled.discard(sequence.id)
        self._tenants.leave(sequence)
        for block in sequence.parked:
            self._cache.release(block)
        if sequence.slot is not None:
            self._slots.release(sequence, now)
        elif sequence in self._complete:
            self._complete.remove(sequence)
        sequence.move_to(State.FINISHED)
        update = _update(sequence, tokens)
        update.finish = reason
        update.timings = sequence.timings(now)
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            self._pace.measure_slot(update.timings.prefill_s + update.timings.decode_s)
        return update


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None, "a sequence without a slot is planned"
    return sequence.slot


def _chunk(part: Part) -> Chunk:
    sequence, size, kept = part
    slot, start = _slot(sequence), sequence.computed
    stores = tuple(Store(slot, first, block) for first, block in kept)
    return Chunk(sequence, slot, sequence.tokens[start : start + size], start, size == sequence.prefill_left, stores)


def _update(sequence: Sequence, tokens: tuple[int, ...]) -> SequenceUpdate:
    return SequenceUpdate(
        request_id=sequence.id,
        token_ids=tokens,
        finish=None,
        timings=None,
        prompt_tokens=len(sequence.request.prompt),
        completion_tokens=sequence.completion_tokens,
        cached_tokens=min(sequence.cached, len(sequence.request.prompt)),
    )
