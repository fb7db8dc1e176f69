"""The length of a row in characters and in tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from devtools.data.libraries import load
from devtools.data.rows import Row
from devtools.data.texts import texts_of
from shared.errors import CorruptFile, InvalidInput, NotFound
from shared.panics import no_panics

_BUILT: dict[str, Any] = {}


def _failed(reason: str) -> InvalidInput:
    return InvalidInput(f"the tokenizer fails on a text ({reason}); take another tokenizer.json", param="tokenizer")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer that travels to other processes as its file.

    digest: SHA-256 of the file, which names it in a version
    content: tokenizer.json
    """

    digest: str
    content: bytes = field(repr=False)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises NotFound or CorruptFile."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NotFound(f"the tokenizer {path} can't be read: {error.strerror}", param="tokenizer") from None
        made = cls(hashlib.sha256(content).hexdigest(), content)
        try:
            made.count("a")
        except ValueError as error:
            raise CorruptFile(f"{path} is not a tokenizer.json: {error}", param="tokenizer") from error
        return made

    def count(self, text: str) -> int:
        """Tokens of a text, without those that begin or end one."""
        if self.digest not in _BUILT:
            tokenizers = load("tokenizers", "devtools")
            try:
                with no_panics(_failed):
                    _BUILT[self.digest] = tokenizers.Tokenizer.from_buffer(self.content)
            except Exception as error:
                raise ValueError(str(error)) from error
        with no_panics(_failed):
            return len(_BUILT[self.digest].encode(text, add_special_tokens=False).ids)

    def count_row(self, row: Row) -> int:
        """Tokens of all texts of a row; those of a chat template are not among them."""
        return sum(map(self.count, texts_of(row)))


@dataclass(frozen=True, slots=True)
class Length:
    """Drops rows that are too short or too long. 0 is no limit.

    min_characters, max_characters: of all texts of a row
    max_tokens: of all texts, by the tokenizer
    tokenizer: a version records its digest
    """

    min_characters: int = 0
    max_characters: int = 0
    max_tokens: int = 0
    name: ClassVar[str] = "length"
    version: ClassVar[int] = 1
    tokenizer: Tokenizer | None = field(default=None, metadata={"recorded": False})

    def __post_init__(self) -> None:
        if min(self.min_characters, self.max_characters, self.max_tokens) < 0:
            raise InvalidInput("step length: expected limits of 0 (none) or more", param="length")
        if self.max_tokens and self.tokenizer is None:
            raise InvalidInput("step length: max_tokens needs a tokenizer", param="tokenizer")

    def apply(self, row: Row) -> Sequence[Row]:
        """The row, or nothing."""
        characters = sum(map(len, texts_of(row)))
        if characters < self.min_characters or (self.max_characters and characters > self.max_characters):
            return ()
        if self.max_tokens and self.tokenizer is not None and self.tokenizer.count_row(row) > self.max_tokens:
            return ()
        return (row,)
