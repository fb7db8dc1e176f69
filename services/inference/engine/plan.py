"""One step as plain data: what to compute, and what came of it."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import NamedTuple

from services.inference.engine.decoder import Span
from services.inference.engine.params import TokenScore
from services.inference.engine.prefix_cache import Block
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

    @property
    def chooses(self) -> bool:
        """Whether the sequence's next token is chosen after it."""
        return self.sequence is not None and self.sequence.remaining == 1

    @property
    def span(self) -> Span:
        """What the decoder computes."""
        return Span(self.slot, self.position, (self.token,))


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
        return len(self.decode) + sum([len(chunk.tokens) for chunk in self.prefill])


@dataclass(frozen=True, slots=True)
class Scores:
    """The log probabilities that a step gave, by request id."""

    chosen: dict[str, TokenScore] = field(default_factory=dict)
    prompt: dict[str, tuple[TokenScore, ...]] = field(default_factory=dict)
    """Of the tokens that a chunk's logits predict; before the first chunk's comes the first token, without one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a plan gave: chosen tokens, or the error that a part ended with."""

    decoded: SequenceOf[int | LlmosError] | LlmosError = ()
    """One token, or the error of its grammar, per decode row. Those of passengers and of rows that compute known
    tokens again mean nothing."""
    prefilled: SequenceOf[int | LlmosError | None] = ()
    """One per chunk: the first token if the chunk `chooses`, else None."""
    scores: Scores = field(default_factory=Scores)
    decode_s: float = 0.0
    """Seconds that the decode rows took; of a run that computed both, their share of its tokens."""
    prefill_s: float = 0.0
    """Seconds that the chunks took, likewise."""
