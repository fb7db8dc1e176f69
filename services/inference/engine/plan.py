"""One step as plain data: what to compute, and what came of it."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import NamedTuple

from services.inference.engine.decoder import Span
from services.inference.engine.prefix_cache import Block
from services.inference.engine.sampling.params import TokenScore
from services.inference.engine.sequence import Sequence
from services.inference.engine.slots import Move
from shared.errors import LlmosError


class Row(NamedTuple):
    """One token of a sequence that decodes. Where the decoder is not uniform, row i of a plan has slot i."""

    sequence: Sequence | None
    """None: a passenger, where the decoder is not uniform. Its slot lies among those of the other rows but still
    prefills; it computes a token that the next chunk overwrites, which costs one row in a step that computes a whole
    chunk, and saves a move."""
    slot: int
    token: int
    position: int
    store: "Store | None" = None
    """What to keep for other prompts, once it is computed: the block that ends with it."""
    draft: tuple[int, ...] = ()
    """Tokens that probably follow. Computed with it; each counts if it is the one that is chosen before it."""

    @property
    def chooses(self) -> bool:
        """Whether the sequence's next token is chosen after it."""
        return self.sequence is not None and self.sequence.remaining == 1

    @property
    def span(self) -> Span:
        """What the decoder computes."""
        return Span(self.slot, self.position, (self.token, *self.draft), 1 + len(self.draft))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a prompt, or of what was generated elsewhere, to compute."""

    sequence: Sequence
    slot: int
    tokens: list[int]
    start: int
    last: bool
    """Whether no chunk of this sequence follows."""
    stores: "tuple[Store, ...]" = ()
    """What to keep of it for other prompts, once it is computed."""

    @property
    def chooses(self) -> bool:
        """Whether the sequence's next token is chosen after it."""
        sequence = self.sequence
        reaches_end = self.start + len(self.tokens) == len(sequence.tokens)
        return reaches_end and sequence.request.sampling.max_tokens > 0

    @property
    def span(self) -> Span:
        """What the decoder computes."""
        wanted = len(self.tokens) if self.sequence.scores_prompt else int(self.chooses)
        return Span(self.slot, self.start, self.tokens, wanted)


@dataclass(frozen=True, slots=True)
class Store:
    """A part of a slot that goes into a block: its sequence gives the slot up, or has completed the block."""

    slot: int
    start: int
    block: Block


@dataclass(frozen=True, slots=True)
class Copy:
    """A block of the prefix cache that goes into a slot."""

    block: Block
    slot: int
    start: int
    """Position of its first token in the slot."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One step, in this order: stores, moves, what is given back, copies, then decode rows and chunks.

    Those are computed together where the decoder is uniform, else one after the other. Empty without work.
    """

    stores: tuple[Store, ...] = ()
    moves: tuple[Move, ...] = ()
    vacated: tuple[int, ...] = ()
    """Slots whose memory can be given back."""
    copies: tuple[Copy, ...] = ()
    decode: tuple[Row, ...] = ()
    prefill: tuple[Chunk, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stores or self.moves or self.vacated or self.copies or self.decode or self.prefill)

    @property
    def batch(self) -> int:
        """Sequences that it advances."""
        return sum([row.sequence is not None for row in self.decode]) + len(self.prefill)

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


@dataclass(frozen=True, slots=True)
class Scores:
    """The log probabilities that a step gave, by request id."""

    chosen: dict[str, tuple[TokenScore, ...]] = field(default_factory=dict)
    """Of the tokens that were chosen, in their order."""
    prompt: dict[str, tuple[TokenScore, ...]] = field(default_factory=dict)
    """Of the tokens that a chunk's logits predict; before the first chunk's comes the first token, without one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a plan gave: chosen tokens, or the error that a part ended with."""

    decoded: SequenceOf[tuple[int, ...] | LlmosError] | LlmosError = ()
    """Per decode row the token chosen after it and one more for each token of its draft that counts, or the error of
    its grammar. None for passengers and for rows that compute known tokens again."""
    prefilled: SequenceOf[int | LlmosError | None] = ()
    """One per chunk: the first token if the chunk `chooses`, else None."""
    scores: Scores = field(default_factory=Scores)
    decode_s: float = 0.0
    """Seconds that the decode rows took; of a run that computed both, their share of its tokens."""
    prefill_s: float = 0.0
    """Seconds that the chunks took, likewise."""

    @property
    def accepted_tokens(self) -> int:
        """Tokens of drafts that count."""
        if isinstance(self.decoded, LlmosError):
            return 0
        return sum([len(tokens) - 1 for tokens in self.decoded if isinstance(tokens, tuple) and tokens])
