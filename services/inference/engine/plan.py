"""One step as plain data: what to compute, and what came of it."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from services.inference.engine.sequence import Sequence
from services.inference.engine.slots import Move
from shared.errors import LlmosError


@dataclass(frozen=True, slots=True)
class Row:
    """One token in one slot of the decode range; row i of a plan has slot i."""

    sequence: Sequence | None
    """None: a passenger. Its slot lies inside the range but still prefills; it computes a token that the next chunk
    overwrites, which costs one row in a step that computes a whole chunk, and saves a move."""
    token: int
    position: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a prompt to compute."""

    sequence: Sequence
    slot: int
    tokens: list[int]
    start: int
    last: bool
    """Whether the prompt ends with it."""

    @property
    def chooses(self) -> bool:
        """Whether the sequence's next token is chosen after it."""
        return self.last and not self.sequence.request.resumed


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: moves, then the decode rows, then the chunks; empty if there is nothing to do."""

    moves: tuple[Move, ...] = ()
    vacated: tuple[int, ...] = ()
    """Slots whose memory can be given back."""
    decode: tuple[Row, ...] = ()
    prefill: tuple[Chunk, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.moves or self.vacated or self.decode or self.prefill)

    @property
    def batch(self) -> int:
        """Sequences that it advances."""
        return sum(row.sequence is not None for row in self.decode) + len(self.prefill)

    @property
    def token_count(self) -> int:
        """Tokens that it computes."""
        return len(self.decode) + sum(len(chunk.tokens) for chunk in self.prefill)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a plan gave: chosen tokens, or the error that a part ended with."""

    decoded: SequenceOf[int] | LlmosError = ()
    """One token per decode row. Those of passengers and of rows that compute known tokens again mean nothing."""
    prefilled: SequenceOf[int | LlmosError | None] = ()
    """One per chunk: the first token if the chunk `chooses`, else None."""
