"""Which sequences the next step advances: pure and synchronous, no clock, no I/O.

    admit() -> queue          plan() -> Plan          (the engine runs it)          apply() -> updates

A step advances every running sequence by one token, then computes prompt chunks with the rest of the budget.
A sequence is computed as if it were alone and never interrupted: chunks of a prompt always have the same sizes,
whatever else runs, and tokens that were generated elsewhere are computed again as decode rows, as the first time.
(Decode and prefill kernels round differently, and activations quantised to int8 turn a last bit into another answer.)
"""

from collections import deque

from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Chunk, Outcome, Plan, Row
from services.inference.engine.sequence import Sequence, SequenceRequest, SequenceUpdate, State
from services.inference.engine.slots import Slots
from shared.contracts.gateway import FinishReason
from shared.errors import Conflict, ContextLengthExceeded, InvalidInput, LlmosError, Overloaded


class Batcher:
    """The state of all sequences. One mutator: whoever owns it calls from one thread at a time."""

    def __init__(self, *, slots: int, max_len: int, vocab_size: int, limits: EngineLimits) -> None:
        limits.check(slots=slots)
        self._max_len = max_len
        self._vocab_size = vocab_size
        self._limits = limits
        self._slots = Slots(slots)
        self._sequences: dict[str, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._cancelled: set[str] = set()
        self._complete: list[Sequence] = []

    @property
    def sequences(self) -> dict[str, Sequence]:
        """All that are alive, by id."""
        return self._sequences

    @property
    def has_work(self) -> bool:
        """Whether `plan` would give something to do or to tell."""
        return bool(self._sequences) or self._slots.has_vacated

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._waiting)

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
        return sum(s.remaining for s in self._sequences.values() if s.state < State.DECODE)

    def admit(self, request: SequenceRequest, now: float) -> None:
        """Put a request into the queue.

        Raises:
            InvalidInput: The prompt is empty or has a token id that the vocabulary lacks.
            ContextLengthExceeded: Prompt and max_tokens together do not fit a slot.
            Conflict: A sequence with this id is alive.
            Overloaded: The queue is at its bound, in sequences or in tokens.
        """
        self._check(request)
        if request.request_id in self._sequences:
            raise Conflict(f"request {request.request_id} is running already")
        sequence = Sequence(request, now)
        if sequence.reason_to_end() is not None:
            self._complete.append(sequence)
        else:
            self._check_room(sequence)
            self._waiting.append(sequence)
        self._sequences[sequence.id] = sequence

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
        chunks = self._plan_prefill(now)
        moves = self._slots.compact()
        prefill = tuple(
            Chunk(s, slot, s.tokens[s.computed : s.computed + size], s.computed, size == s.prompt_left)
            for s, size in chunks
            if (slot := s.slot) is not None
        )
        return Plan(tuple(moves), tuple(self._slots.vacated()), self._plan_decode(), prefill), updates

    def apply(self, plan: Plan, outcome: Outcome, now: float) -> list[SequenceUpdate]:
        """Take the results of a plan in; what to tell. Cancelled sequences end here and get no token."""
        updates = self._end_cancelled(now)
        decoded = outcome.decoded
        for index, row in enumerate(plan.decode):
            if row.sequence is not None and row.sequence.state is State.DECODE:
                if isinstance(decoded, LlmosError):
                    updates.append(self._fail(row.sequence, decoded, now))
                    continue
                row.sequence.computed += 1
                if row.sequence.remaining == 0:
                    updates.append(self._advance(row.sequence, decoded[index], now))
        for chunk, result in zip(plan.prefill, outcome.prefilled, strict=True):
            sequence = chunk.sequence
            if sequence.state is not State.PREFILL:
                continue
            if isinstance(result, LlmosError):
                updates.append(self._fail(sequence, result, now))
                continue
            sequence.computed += len(chunk.tokens)
            if chunk.last:
                sequence.move_to(State.DECODE)
            if result is not None:
                updates.append(self._advance(sequence, result, now))
        return updates

    def fail_all(self, error: LlmosError, now: float) -> list[SequenceUpdate]:
        """End every sequence with `error`."""
        return [self._fail(sequence, error, now) for sequence in list(self._sequences.values())]

    def check_integrity(self) -> None:
        """Raise AssertionError unless queue, slots and states agree."""
        self._slots.check_integrity()
        alive = self._sequences.values()
        waiting = set(map(id, self._waiting))
        complete = set(map(id, self._complete))
        for sequence in alive:
            state = sequence.state
            assert state is not State.FINISHED, "a finished sequence is still known"
            in_queue = id(sequence) in waiting or id(sequence) in complete
            assert (state is State.WAITING) == in_queue, "state and queue disagree"
            assert (state is State.WAITING) == (sequence.slot is None), "state and slot disagree"
            assert sequence.remaining >= 1, "an alive sequence has nothing left to compute"
            assert (state < State.DECODE) == (sequence.prompt_left > 0), "state and computed tokens disagree"
            assert len(sequence.tokens) <= self._max_len, "a sequence outgrew its slot"
        assert len(alive) == len(self._waiting) + len(self._complete) + self.running, "a sequence is lost"
        assert self._cancelled <= self._sequences.keys(), "a cancelled sequence is not known"

    def _check(self, request: SequenceRequest) -> None:
        if not request.prompt:
            raise InvalidInput("the prompt has no tokens", param="prompt")
        for token in (min(*request.prompt, *request.resumed, 0), max(*request.prompt, *request.resumed, 0)):
            if not 0 <= token < self._vocab_size:
                raise InvalidInput(
                    f"token id {token} is outside the vocabulary of {self._vocab_size}", param="prompt"
                )
        need = len(request.prompt) + max(request.sampling.max_tokens, len(request.resumed))
        if need > self._max_len:
            raise ContextLengthExceeded(
                f"the prompt has {len(request.prompt)} tokens and max_tokens is {request.sampling.max_tokens}: "
                f"together {need}, but this deployment takes at most {self._max_len}; "
                f"shorten the prompt, lower max_tokens, or deploy with a larger max_len",
                param="max_tokens",
            )

    def _check_room(self, sequence: Sequence) -> None:
        limits = self._limits
        if len(self._waiting) >= limits.max_waiting + self.free_slots:
            raise Overloaded(f"{len(self._waiting)} requests wait already; try again later", retry_after=1.0)
        queued = self.queued_tokens
        if queued and queued + sequence.remaining > limits.max_queued_tokens:
            raise Overloaded(f"{queued} prompt tokens wait already; try again later", retry_after=1.0)

    def _plan_prefill(self, now: float) -> list[tuple[Sequence, int]]:
        """Sequences to prefill with the sizes of their chunks: the one in progress first, then from the queue."""
        left = self._limits.step_tokens - self.running
        chunks: list[tuple[Sequence, int]] = []
        for sequence in self._sequences.values():
            size = self._chunk_size(sequence)
            if sequence.state is State.PREFILL and size <= left:
                chunks.append((sequence, size))
                left -= size
        while self._waiting and self._slots.free and (size := self._chunk_size(self._waiting[0])) < left:
            sequence = self._waiting.popleft()
            sequence.start(self._slots.take(sequence), now)
            chunks.append((sequence, size))
            left -= size + 1  # a new slot may be a passenger of the decode range
        return chunks

    def _chunk_size(self, sequence: Sequence) -> int:
        return min(self._limits.prefill_chunk, sequence.prompt_left)

    def _plan_decode(self) -> tuple[Row, ...]:
        occupied = self._slots.occupied()
        while occupied and occupied[-1].state is not State.DECODE:
            occupied.pop()
        return tuple(
            Row(s, s.tokens[s.computed], s.computed) if s.state is State.DECODE else Row(None, 0, s.computed)
            for s in occupied
        )

    def _advance(self, sequence: Sequence, token: int, now: float) -> SequenceUpdate:
        reason = sequence.append(token, now)
        return self._finish(sequence, reason, now, (token,)) if reason else _update(sequence, (token,))

    def _end_cancelled(self, now: float) -> list[SequenceUpdate]:
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
        if sequence.slot is not None:
            self._slots.release(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        elif sequence in self._complete:
            self._complete.remove(sequence)
        sequence.move_to(State.FINISHED)
        update = _update(sequence, tokens)
        update.finish = reason
        update.timings = sequence.timings(now)
        return update


def _update(sequence: Sequence, tokens: tuple[int, ...]) -> SequenceUpdate:
    return SequenceUpdate(
        request_id=sequence.id,
        token_ids=tokens,
        finish=None,
        timings=None,
        prompt_tokens=len(sequence.request.prompt),
        completion_tokens=sequence.completion_tokens,
    )
