"""One step as plain data, and its results. Requests are named by id, slots and blocks by number."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.inference.engine.decoder import Span
from services.inference.engine.sampling.params import TokenScore
from shared.errors import LlmosError


class Move(NamedTuple):
    """Copy the keys and values of `length` tokens from slot to slot."""

    source: int
    destination: int
    length: int


class Store(NamedTuple):
    """Copy a part of a slot into a block: its sequence gives the slot up, or has completed the block."""

    slot: int
    start: int
    block: int


class Copy(NamedTuple):
    """Copy a block of the prefix cache into a slot."""

    block: int
    slot: int
    start: int
    """Position of its first token in the slot."""


class DecodeRow(NamedTuple):
    """One token of a sequence that decodes. Where the decoder is not batch-invariant, row i of a plan has slot i."""

    request_id: str | None
    """None: a padding row, where the decoder is not batch-invariant. Its slot lies among those of the other rows but
    still prefills; it computes a token that the next chunk overwrites, which costs one row in a step that computes a
    whole chunk, and saves a move."""
    slot: int
    token: int
    position: int
    samples: bool = False
    """Whether the request's next token is chosen after it: all tokens before are computed."""
    store: Store | None = None
    """The block that ends with it, to be stored once it is computed."""
    draft: tuple[int, ...] = ()
    """Proposed next tokens, computed with it. Each is accepted if it equals the token that is chosen before it."""

    @property
    def span(self) -> Span:
        """The tokens to compute."""
        return Span(self.slot, self.position, (self.token, *self.draft), 1 + len(self.draft))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a prompt, or of resumed tokens, to compute."""

    request_id: str
    slot: int
    tokens: list[int]
    start: int
    last: bool
    """Whether no chunk of this request follows."""
    samples: bool = False
    """Whether the request's next token is chosen after it."""
    scores_prompt: bool = False
    """Whether the log probabilities of the prompt's tokens are computed from its logits."""
    stores: tuple[Store, ...] = ()
    """Its blocks, to be stored once it is computed."""

    @property
    def span(self) -> Span:
        """The tokens to compute."""
        logits = len(self.tokens) if self.scores_prompt else int(self.samples)
        return Span(self.slot, self.start, self.tokens, logits)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step, in this order: stores, moves, vacated slots, copies, then decode rows and chunks.

    Rows and chunks are computed together where the decoder is batch-invariant, else one after the other.
    """

    stores: tuple[Store, ...] = ()
    moves: tuple[Move, ...] = ()
    vacated: tuple[int, ...] = ()
    """Slots whose memory can be given back."""
    copies: tuple[Copy, ...] = ()
    decode: tuple[DecodeRow, ...] = ()
    prefill: tuple[Chunk, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stores or self.moves or self.vacated or self.copies or self.decode or self.prefill)

    @property
    def batch(self) -> int:
        """Sequences that it advances."""
        return sum([row.request_id is not None for row in self.decode]) + len(self.prefill)

    @property
    def token_count(self) -> int:
        """Tokens that it computes."""
        return len(self.decode) + self.draft_tokens + self.prompt_tokens

    @property
    def draft_tokens(self) -> int:
        """Tokens of all drafts."""
        return sum([len(row.draft) for row in self.decode])

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all chunks."""
        return sum([len(chunk.tokens) for chunk in self.prefill])


@dataclass(slots=True)
class Outcome:
    """The results of a step: chosen tokens, or the error that a part ended with."""

    decoded: Sequence[tuple[int, ...] | LlmosError] | LlmosError = ()
    """Per decode row the token chosen after it and one more for each accepted token of its draft, or the error of
    its grammar. No token for padding rows and for rows that compute known tokens again."""
    prefilled: Sequence[int | LlmosError | None] = ()
    """One per chunk: the first token if the chunk `samples`, else None."""
    scores: dict[str, tuple[TokenScore, ...]] = field(default_factory=dict)
    """By request id, the log probabilities of its chosen tokens, in their order."""
    prompt_scores: dict[str, tuple[TokenScore, ...]] = field(default_factory=dict)
    """By request id, those of the tokens that a chunk's logits predict; before the first chunk's comes the first
    token, without one."""
    grammar_ended: set[str] = field(default_factory=set)
    """Ids of the requests whose grammar allows nothing after their last chosen token."""
    decode_s: float = 0.0
    """Seconds that the decode rows took; of a run that computed both, their share of its tokens."""
    prefill_s: float = 0.0
    """Seconds that the chunks took, likewise."""

    @property
    def accepted_tokens(self) -> int:
        """Accepted tokens of all drafts."""
        if isinstance(self.decoded, LlmosError):
            return 0
        return sum([len(tokens) - 1 for tokens in self.decoded if isinstance(tokens, tuple) and tokens])
