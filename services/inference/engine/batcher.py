"""Continuous batching: which sequences the next step advances. Pure and synchronous.

    admit() -> queue          plan() -> Plan          (the executor runs it)          apply() -> updates

A step advances every running sequence by one token, then computes prompt chunks with the rest of its budget. The
answer of a sequence does not depend on its neighbours, nor on interruptions.

Where the decoder is batch-invariant, that needs no rules. A step is one run, wherever its slots lie. A short rest of
a prompt is computed with the chunk before it if the step has space, and resumed tokens are computed in chunks as
well.

Elsewhere, kernels for rows and for chunks may round differently, and activations quantised to int8 turn a last bit
into another answer. So chunks of a prompt always have the same sizes, and resumed tokens are computed as decode rows
again.
"""

from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Chunk, Outcome, Plan
from services.inference.engine.policy.admission import Admission, check_request
from services.inference.engine.policy.block_reservation import BlockReservation
from services.inference.engine.policy.decode import DecodePolicy
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.policy.preemption import Preemption
from services.inference.engine.policy.prefill import PrefillPolicy
from services.inference.engine.policy.throughput import Throughput
from services.inference.engine.prefix_cache import PrefixCache
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.sequence import Sequence, State
from services.inference.engine.slots import Slots
from shared.contracts.gateway import FinishReason
from shared.contracts.load import EngineCounters
from shared.errors import Conflict, LlmosError


class Batcher:
    """The state of all sequences. It is not thread-safe.

    Args:
        slots: Of the decoder, as the next two.
        max_len: Tokens per slot.
        vocab_size: Token ids are 0..vocab_size-1.
        limits: Bounds of a step, of the queue and of the prefix cache.
        batch_invariant: See `Decoder.batch_invariant`.
    """

    def __init__(
        self, *, slots: int, max_len: int, vocab_size: int, limits: EngineLimits, batch_invariant: bool = False
    ) -> None:
        limits.check(slots=slots)
        self._batch_invariant = batch_invariant
        self._max_len = max_len
        self._vocab_size = vocab_size
        self._limits = limits
        self._slots = Slots(slots)
        self._sequences: dict[str, Sequence] = {}
        self._tenants = Tenants()
        self._throughput = Throughput()
        size = limits.prefill_chunk
        self._cache = PrefixCache(limits.cache_blocks)
        self.counters = EngineCounters()
        """What was counted since the start, here and by the engine."""
        self._reservation = BlockReservation(self._cache, size=size, batch_invariant=batch_invariant)
        self._decode = DecodePolicy(limits, self._slots, self._tenants, self._reservation)
        self._prefill = PrefillPolicy(
            limits,
            self._slots,
            self._tenants,
            self._cache,
            self._reservation,
            throughput=self._throughput,
            counters=self.counters,
        )
        self._preemption = Preemption(self._slots, self._tenants, self._cache, size=size)
        self._admission = Admission(limits, self._tenants, self._throughput, slots=slots)
        self._cancelled: set[str] = set()
        self._complete: list[Sequence] = []
        """Resumed sequences that had nothing left to generate: they end in the next `plan`."""

    @property
    def sequences(self) -> dict[str, Sequence]:
        """All that are alive, by id."""
        return self._sequences

    def idle_s(self, now: float) -> float | None:
        """Seconds until `plan` has work or updates; None: not before a request comes."""
        if self._sequences:
            return 0.0
        since = self._slots.vacated_at
        return None if since is None else max(0.0, since + self._limits.keep_slot_s - now)

    @property
    def waiting(self) -> int:
        """Sequences in the queue, preempted ones included."""
        return self._tenants.waiting + sum(len(tenant.preempted) for tenant in self._tenants)

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
        return self._tenants.queued_tokens

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
        sequence = Sequence(request, now, batch_invariant=self._batch_invariant)
        self._reservation.admit(sequence)
        self._decode.admit(sequence)
        complete = sequence.reason_to_end() is not None
        if complete:
            self._complete.append(sequence)
        else:
            self._prefill.admit(sequence)
            self._admission.check_fit(sequence, free_slots=self.free_slots)
        self._tenants.join(sequence, waits=not complete)
        self._sequences[sequence.id] = sequence

    def check_queue(self, tenant: str) -> None:
        """Raise `Overloaded` if any next request of a tenant would be refused."""
        self._admission.check_queue(tenant, free_slots=self.free_slots)

    def charge(self, tenant: str, seconds: float) -> None:
        """Count preparing a tenant's requests as the prompt tokens that could have been computed instead."""
        self._tenants.charge_preparation(tenant, self._throughput.prompt_tokens(seconds) or 0)

    def cancel(self, request_id: str) -> bool:
        """End a sequence at the next `plan` or `apply`, whichever comes first; False if no sequence has this id."""
        if request_id not in self._sequences:
            return False
        self._cancelled.add(request_id)
        return True

    def plan(self, now: float) -> tuple[Plan, list[SequenceUpdate]]:
        """The next step, and the sequences that end without one (cancelled, or complete when they came)."""
        updates = self._end_cancelled(now)
        updates += [self._finish(s, reason, now) for s in list(self._complete) if (reason := s.reason_to_end())]
        preempted, stores = self._preemption.preempt(now)
        self.counters.preemptions += preempted is not None
        chunks, copies = self._prefill.choose(now, preempted)
        moves = [] if self._batch_invariant else self._slots.compact(now)
        plan = Plan(
            stores,
            tuple(moves),
            tuple(self._slots.vacated(now - self._limits.keep_slot_s)),
            tuple([each.copy for each in copies]),
            self._decode.choose(alone=not chunks),
            tuple([each.chunk for each in chunks]),
        )
        return plan, updates

    def apply(self, plan: Plan, outcome: Outcome, now: float) -> list[SequenceUpdate]:
        """Apply the results of a plan; the updates they give. Cancelled sequences end here and get no token."""
        updates = self._end_cancelled(now)
        self._reservation.settle(plan, outcome)
        self._throughput.measure_step(
            prompt_tokens=plan.prompt_tokens, prefill_s=outcome.prefill_s, decode_s=outcome.decode_s
        )
        for index, row in enumerate(plan.decode):
            if row.request_id is not None and (sequence := self._sequences.get(row.request_id)):
                updates += self._apply_row(sequence, index, outcome, now)
        for chunk, result in zip(plan.prefill, outcome.prefilled, strict=True):
            if sequence := self._sequences.get(chunk.request_id):
                updates += self._apply_chunk(sequence, chunk, result, outcome, now)
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
        for sequence in self._sequences.values():
            sequence.check_integrity()
            assert len(sequence.tokens) <= self._max_len, "a sequence outgrew its slot"
        alive = len(self._sequences)
        assert {s.state for s in self._complete} <= {State.WAITING}, "state and queue disagree"
        for tenant in self._tenants:
            assert {s.state for s in tenant.waiting} <= {State.WAITING}, "state and queue disagree"
            assert {s.state for s in tenant.preempted} <= {State.PREEMPTED}, "state and tenant disagree"
            assert {s.state for s in tenant.prefilling} <= {State.PREFILL}, "state and tenant disagree"
            decoding = set(tenant.running).difference(tenant.prefilling)
            assert {s.state for s in decoding} <= {State.DECODE}, "state and tenant disagree"
        assert self.running == sum(len(tenant.running) for tenant in self._tenants), "slots and tenants disagree"
        assert alive == self.waiting + len(self._complete) + self.running, "a sequence is lost"
        assert alive == sum(tenant.alive for tenant in self._tenants), "a tenant's sequences are miscounted"
        assert self._cancelled <= self._sequences.keys(), "a cancelled sequence is not known"

    def _apply_row(self, sequence: Sequence, index: int, outcome: Outcome, now: float) -> list[SequenceUpdate]:
        result = outcome.decoded if isinstance(outcome.decoded, LlmosError) else outcome.decoded[index]
        if isinstance(result, LlmosError):
            return [self._fail(sequence, result, now)]
        if sequence.remaining > 1:
            sequence.computed += 1
            return []
        return [self._advance(sequence, result, outcome, now)]

    def _apply_chunk(
        self, sequence: Sequence, chunk: Chunk, result: int | LlmosError | None, outcome: Outcome, now: float
    ) -> list[SequenceUpdate]:
        if isinstance(result, LlmosError):
            return [self._fail(sequence, result, now)]
        sequence.computed += len(chunk.tokens)
        if chunk.last:
            sequence.move_to(State.DECODE)
            self._tenants.prompt_done(sequence)
        scores = outcome.prompt_scores.get(sequence.id, ())
        if result is not None:
            update = self._advance(sequence, (result,), outcome, now)
        elif chunk.last and (reason := sequence.reason_to_end()):
            update = self._finish(sequence, reason, now)
        elif scores:
            update = sequence.update()
        else:
            return []
        update.prompt_scores = scores
        return [update]

    def _advance(self, sequence: Sequence, tokens: tuple[int, ...], outcome: Outcome, now: float) -> SequenceUpdate:
        """Add tokens that were chosen one after the other, up to the one that ends it; all but the last have keys."""
        ended = sequence.id in outcome.grammar_ended
        for count, token in enumerate(tokens, 1):
            sequence.computed = len(sequence.tokens)
            if reason := sequence.append(token, now, grammar_ended=ended and count == len(tokens)):
                update = self._finish(sequence, reason, now, tokens[:count])
                break
        else:
            update = sequence.update(tokens)
        update.scores = outcome.scores.get(sequence.id, ())[: len(update.token_ids)]
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
        """End a sequence: every end goes through here. Removes it and frees what it holds."""
        del self._sequences[sequence.id]
        self._cancelled.discard(sequence.id)
        self._tenants.leave(sequence)
        for block in sequence.saved_blocks:
            self._cache.release(block)
        if sequence.slot is not None:
            self._slots.release(sequence, now)
        elif sequence in self._complete:
            self._complete.remove(sequence)
        sequence.move_to(State.FINISHED)
        update = sequence.update(tokens)
        update.finish = reason
        update.timings = sequence.timings(now)
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            self._throughput.measure_slot(update.timings.prefill_s + update.timings.decode_s)
        return update
