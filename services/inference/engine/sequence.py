"""One generation: what was asked, where it stands, and what a step tells about it.

Life of a sequence:

    WAITING ──> PREFILL ────> DECODE ───────> FINISHED
       │           └─> PREEMPTED <─┘             ^     (preempted sequences continue where they were)
       └──────────── from everywhere ────────────┘     (cancelled, failed, or nothing left to do)
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from enum import IntEnum

from services.inference.engine.ngram_proposer import NgramProposer
from services.inference.engine.prefix_cache import Block
from services.inference.engine.sampling.constraint import Constraint
from services.inference.engine.sampling.params import SamplingParams as SamplingParams  # noqa: PLC0414  # for those who need both
from services.inference.engine.sampling.params import TokenScore
from shared.contracts.gateway import FinishReason, Timings
from shared.errors import LlmosError


class State(IntEnum):
    """Where a sequence stands; ordered, so that `state < FINISHED` means alive."""

    WAITING = 0
    """In the queue, no slot."""
    PREFILL = 1
    """Has a slot; part of its chunks is computed."""
    DECODE = 2
    """Its chunks are computed: a step computes one more token, and chooses the next once all are computed."""
    PREEMPTED = 3
    """Gave its slot to another tenant, and waits for one again; its keys and values lie in blocks."""
    FINISHED = 4


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.PREFILL, State.FINISHED}),
    State.PREFILL: frozenset({State.DECODE, State.PREEMPTED, State.FINISHED}),
    State.DECODE: frozenset({State.PREEMPTED, State.FINISHED}),
    State.PREEMPTED: frozenset({State.PREFILL, State.DECODE, State.FINISHED}),
    State.FINISHED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """A generation to run."""

    request_id: str
    prompt: SequenceOf[int]
    resumed: SequenceOf[int] = ()
    """Tokens that were generated elsewhere: they count as generated and are not delivered again."""
    sampling: SamplingParams = field(kw_only=True)
    tenant: str = field(default="", kw_only=True)
    """Who asks: turns and room in the queue are shared between tenants."""
    cache_salt: str = field(default="", kw_only=True)
    """Blocks of the prefix cache are shared only between requests of the same salt."""
    constraint: Constraint | None = field(default=None, kw_only=True)
    """What the answer must match; it has accepted `resumed`."""

    @property
    def reads_cache(self) -> bool:
        """Whether the prefix cache may spare it work: not when the logits of each token of the prompt are wanted."""
        return self.sampling.prompt_logprobs is None


@dataclass(slots=True)
class SequenceUpdate:
    """What one step did to one sequence. Exactly one update of each sequence has `finish`, its last."""

    request_id: str
    token_ids: tuple[int, ...]
    """New tokens. An end-of-sequence token is delivered here, with `finish` STOP, and has no text."""
    finish: FinishReason | None
    timings: Timings | None
    """With `finish` only."""
    prompt_tokens: int
    completion_tokens: int
    """Generated so far, with those of `SequenceRequest.resumed`."""
    error: LlmosError | None = None
    """With `finish` ERROR only."""
    scores: tuple[TokenScore, ...] = ()
    """With `SamplingParams.logprobs`: one for each of `token_ids`."""
    prompt_scores: tuple[TokenScore, ...] = ()
    """With `SamplingParams.prompt_logprobs`: the prompt's next tokens. All come before the first of `token_ids`."""
    cached_tokens: int = 0
    """Prompt tokens that were copied from the prefix cache. A resumed answer's own tokens do not count."""


class Sequence:
    """A sequence inside the engine. Only the batcher changes it.

    Args:
        request: What to run.
        now: Seconds on the engine's clock when it was admitted.
        batch_invariant: Whether the decoder is (`Decoder.batch_invariant`).
    """

    __slots__ = (
        *("_state", "_t_admitted", "_t_first_token", "_t_started"),
        *(
            "cached",
            "computed",
            "proposer",
            "expected_cached",
            "grammar_ended",
            "keys",
            "saved_blocks",
            "preemptions",
            "prefill_tokens",
            "request",
            "slot",
            "tokens",
        ),
    )

    def __init__(self, request: SequenceRequest, now: float, *, batch_invariant: bool = False) -> None:
        self.request = request
        self.tokens: list[int] = [*request.prompt, *request.resumed]
        """Prompt and all generated tokens."""
        self.prefill_tokens = len(self.tokens) if batch_invariant else len(request.prompt)
        """How many of `tokens` are computed in chunks: the prompt's, and those of `SequenceRequest.resumed` where a
        chunk gives them the bits that decode rows gave them."""
        self.proposer: NgramProposer | None = None
        """Guesses its next tokens, where they may be computed ahead."""
        self.computed = 0
        """How many of `tokens` have keys and values in the slot."""
        self.cached = 0
        """How many of `computed` were copied from the prefix cache."""
        self.keys: list[bytes] = []
        """Of its full blocks in the prefix cache, as far as they were needed; none without one."""
        self.expected_cached = 0
        """Tokens that the cache held when it was admitted; 0 once it started."""
        self.saved_blocks: list[Block] = []
        """Where its keys and values lie while it has no slot."""
        self.preemptions = 0
        """How often it gave its slot up."""
        self.slot: int | None = None
        self.grammar_ended = request.constraint is not None and request.constraint.finished
        """Whether its grammar allows no token after the last one."""
        self._state = State.WAITING
        self._t_admitted = now
        self._t_started: float | None = None
        self._t_first_token: float | None = None

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.request_id

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

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

    @property
    def scores_prompt(self) -> bool:
        """Whether the log probabilities of the prompt's tokens are told; elsewhere they were before it went on."""
        return self.request.sampling.prompt_logprobs is not None and not self.request.resumed

    def move_to(self, state: State) -> None:
        """Change the state; raises RuntimeError on a move that the table does not know."""
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
        """Its slot was released; `blocks` hold what it had computed."""
        self.move_to(State.PREEMPTED)
        self.saved_blocks = blocks
        self.preemptions += 1

    def resume(self, slot: int) -> list[Block]:
        """Go on in a slot; the blocks to copy into it."""
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
        if self.scores_prompt and self.prefill_left:
            return None
        return FinishReason.LENGTH if generated >= self.request.sampling.max_tokens else None

    def timings(self, now: float) -> Timings:
        """Seconds spent in the queue, in prefill and in decode until `now`."""
        started = now if self._t_started is None else self._t_started
        first = now if self._t_first_token is None else self._t_first_token
        return Timings(queue_s=started - self._t_admitted, prefill_s=first - started, decode_s=now - first)
