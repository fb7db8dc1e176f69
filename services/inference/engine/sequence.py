"""The state of one generation inside the batcher. Pure.

Life of a sequence:

    WAITING ──> PREFILL ────> DECODE ───────> FINISHED
       │           └─> PREEMPTED <─┘             ^     (preempted sequences continue where they were)
       └──────────── from everywhere ────────────┘     (cancelled, failed, or nothing left to do)
"""

from enum import IntEnum

from services.inference.engine.ngram_proposer import NgramProposer
from services.inference.engine.prefix_cache import Block
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from shared.contracts.gateway import FinishReason, Timings


class State(IntEnum):
    """State of a sequence; ordered, so that `state < FINISHED` means alive."""

    WAITING = 0
    """In the queue, no slot."""
    PREFILL = 1
    """Has a slot; part of its chunks is computed."""
    DECODE = 2
    """Its chunks are computed: a step computes one more token, and chooses the next once all are computed."""
    PREEMPTED = 3
    """Lost its slot to another tenant, and waits for one; its keys and values lie in blocks."""
    FINISHED = 4


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.PREFILL, State.FINISHED}),
    State.PREFILL: frozenset({State.DECODE, State.PREEMPTED, State.FINISHED}),
    State.DECODE: frozenset({State.PREEMPTED, State.FINISHED}),
    State.PREEMPTED: frozenset({State.PREFILL, State.DECODE, State.FINISHED}),
    State.FINISHED: frozenset(),
}


class Sequence:
    """A sequence. Only the batcher and its policies change it.

    Args:
        request: The generation to run.
        now: Seconds on the engine's clock at its admission.
        batch_invariant: See `Decoder.batch_invariant`.
    """

    __slots__ = (
        *("_state", "_t_admitted", "_t_first_token", "_t_started"),
        *("cached", "computed", "expected_cached", "grammar_ended", "id", "keys", "preemptions", "prefill_tokens"),
        *("proposer", "request", "saved_blocks", "slot", "tokens"),
    )

    def __init__(self, request: SequenceRequest, now: float, *, batch_invariant: bool = False) -> None:
        self.id = request.request_id
        self.request = request
        self.tokens: list[int] = [*request.prompt, *request.resumed]
        """Prompt and all generated tokens."""
        self.prefill_tokens = len(self.tokens) if batch_invariant else len(request.prompt)
        """How many of `tokens` are computed in chunks: those of the prompt, and those of `SequenceRequest.resumed`
        where a chunk gives them the bits that decode rows gave them."""
        self.proposer: NgramProposer | None = None
        """Proposes drafts, where they are on."""
        self.computed = 0
        """How many of `tokens` have keys and values in the slot."""
        self.cached = 0
        """How many of `computed` were copied from the prefix cache."""
        self.keys: list[bytes] = []
        """Keys of its full blocks in the prefix cache, as far as they were needed."""
        self.expected_cached = 0
        """Tokens that the cache held at its admission; 0 once it started."""
        self.saved_blocks: list[Block] = []
        """Hold its keys and values while it is preempted."""
        self.preemptions = 0
        """How often it was preempted."""
        self.slot: int | None = None
        self.grammar_ended = request.constraint is not None and request.constraint.finished
        """Whether its grammar allows no token after the last one."""
        self._state = State.WAITING
        self._t_admitted = now
        self._t_started: float | None = None
        self._t_first_token: float | None = None

    @property
    def state(self) -> State:
        """Its state."""
        return self._state

    @property
    def used_slot(self) -> int:
        """The slot of a sequence that has one."""
        assert self.slot is not None, "a sequence without a slot is planned"
        return self.slot

    @property
    def remaining(self) -> int:
        """Tokens that must be computed before the next one can be chosen."""
        return len(self.tokens) - self.computed

    @property
    def prefill_left(self) -> int:
        """Tokens to compute in chunks that are not computed yet."""
        return max(0, self.prefill_tokens - self.computed)

    @property
    def expected_work(self) -> int:
        """Tokens that will probably have to be computed before the next one can be chosen."""
        return self.remaining - self.expected_cached

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far, here and elsewhere."""
        return len(self.tokens) - len(self.request.prompt)

    def move_to(self, state: State) -> None:
        """Change the state; raises RuntimeError if the table lacks the transition."""
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"sequence {self.id} cannot go from {self._state.name} to {state.name}")
        self._state = state

    def start(self, slot: int, now: float) -> None:
        """Take a slot: from now on prompt tokens are computed."""
        self.move_to(State.PREFILL)
        self.expected_cached = 0
        self.slot = slot
        self._t_started = now

    def preempt(self, blocks: list[Block]) -> None:
        """Its slot was released; `blocks` hold its keys and values."""
        self.move_to(State.PREEMPTED)
        self.saved_blocks = blocks
        self.preemptions += 1

    def resume(self, slot: int) -> list[Block]:
        """Continue in a slot; the blocks to copy into it."""
        self.move_to(State.PREFILL if self.prefill_left else State.DECODE)
        self.slot = slot
        blocks, self.saved_blocks = self.saved_blocks, []
        return blocks

    def append(self, token: int, now: float, *, grammar_ended: bool = False) -> FinishReason | None:
        """Add a generated token, after which the grammar may have ended; the reason to end, if there is one."""
        self.tokens.append(token)
        if self._t_first_token is None:
            self._t_first_token = now
        self.grammar_ended = grammar_ended
        return self.reason_to_end()

    def reason_to_end(self) -> FinishReason | None:
        """Why no further token may be generated, or None."""
        generated = self.completion_tokens
        if generated and self.request.sampling.ends(self.tokens[-1]):
            return FinishReason.STOP
        if self.grammar_ended:
            return FinishReason.STOP
        if self.request.scores_prompt and self.prefill_left:
            return None
        return FinishReason.LENGTH if generated >= self.request.sampling.max_tokens else None

    def update(self, token_ids: tuple[int, ...] = ()) -> SequenceUpdate:
        """The update that delivers `token_ids`, the last of its tokens."""
        prompt = len(self.request.prompt)
        return SequenceUpdate(
            request_id=self.id,
            token_ids=token_ids,
            finish=None,
            timings=None,
            prompt_tokens=prompt,
            completion_tokens=len(self.tokens) - prompt,
            cached_tokens=min(self.cached, prompt),
        )

    def timings(self, now: float) -> Timings:
        """Seconds spent in the queue, in prefill and in decode until `now`."""
        started = now if self._t_started is None else self._t_started
        first = now if self._t_first_token is None else self._t_first_token
        return Timings(queue_s=started - self._t_admitted, prefill_s=first - started, decode_s=now - first)

    def check_integrity(self) -> None:
        """Raise AssertionError unless state, slot and counts of an alive sequence agree."""
        assert self.state is not State.FINISHED, "a finished sequence is still known"
        assert (self.state in (State.WAITING, State.PREEMPTED)) == (self.slot is None), "state and slot disagree"
        assert self.remaining >= 1, "an alive sequence has nothing left to compute"
        if self.state is not State.PREEMPTED:
            assert (self.state < State.DECODE) == (self.prefill_left > 0), "state and computed tokens disagree"
        assert self.cached <= self.computed, "more was copied than is computed"
