"""Findings about rows before any training: what is wrong, how often, and where first."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from devtools.data import private
from devtools.data.clean import broken_text
from devtools.data.reader import Located
from devtools.data.repeat import repetition
from devtools.data.rows import Pair, Row
from devtools.data.texts import answers_of, messages_of, texts_of
from shared.contracts.dataset import Finding

EXAMPLES = 5
"""Places that a finding names."""


@dataclass(slots=True)
class Places:
    """The place of each row, in eight bytes: a file and a line, or a row of a version."""

    files: list[str] = field(default_factory=list)
    _file: "array[int]" = field(default_factory=lambda: array("I"))
    _line: "array[int]" = field(default_factory=lambda: array("I"))

    def add(self, where: str) -> None:
        """Note the place of the next row: `chats.jsonl:17`."""
        name, _, line = where.rpartition(":")
        if not self.files or self.files[-1] != name:
            self.files.append(name)
        self._file.append(len(self.files) - 1)
        self._line.append(int(line))

    def __getitem__(self, index: int) -> str:
        return f"{self.files[self._file[index]]}:{self._line[index]}"

    def __len__(self) -> int:
        return len(self._line)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a row may be.

    max_characters, max_tokens: of a row; 0 for no limit
    count: tokens of a text
    regions: whose national phone numbers count
    """

    max_characters: int = 0
    max_tokens: int = 0
    count: Any = None
    regions: Sequence[str] = ()


class Checker:
    """Takes rows with their places one by one, in bounded memory (32 bytes a row), and says what it found.

    Args:
        limits: Of a row.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._places = Places()
        self._ids = array("Q")
        self._own_ids = array("Q")
        self._own_places = Places()
        self.characters = 0
        self.tokens = 0
        self.rows = 0
        self.roles: Counter[str] = Counter()

    def add(self, located: Located) -> None:
        """Check what an object of a file gave."""
        if located.own_id:
            self._own_ids.append(_hash(located.own_id.encode()))
            self._own_places.add(located.where)
        if located.defect is not None:
            self.found(located.defect.kind, located.where)
        for row in located.rows:
            self._places.add(located.where)
            self._ids.append(int(row.id[:16], 16))
            for kind in self._defects(row):
                self.found(kind, located.where)

    def found(self, kind: str, where: str) -> None:
        """Count a finding."""
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES and where not in examples:
            examples.append(where)

    def place(self, index: int) -> str:
        """Where the row with this number is."""
        return self._places[index]

    def findings(self) -> tuple[Finding, ...]:
        """All that was found, by kind."""
        counts, examples = Counter(self._counts), dict(self._examples)
        for kind, hashes, places in (
            ("duplicate", self._ids, self._places),
            ("duplicate_id", self._own_ids, self._own_places),
        ):
            repeated = _repeated(hashes)
            if len(repeated):
                counts[kind] = len(repeated)
                examples[kind] = [places[int(index)] for index in repeated[:EXAMPLES]]
        return tuple(
            Finding(kind=kind, count=count, examples=tuple(examples.get(kind, ())))
            for kind, count in sorted(counts.items())
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """Numbers of the rows."""
        return {"rows": self.rows, "characters": self.characters, "tokens": self.tokens, "roles": dict(self.roles)}

    def _defects(self, row: Row) -> Iterator[str]:
        self.rows += 1
        self.roles.update(message.role for message in messages_of(row))
        texts = list(texts_of(row))
        length = sum(map(len, texts))
        self.characters += length
        kinds: set[str] = set()
        for text in texts:
            kinds.update(broken_text(text))
            kinds.update(f"personal_data.{span.kind}" for span in private.find(text, regions=self._limits.regions))
        kinds.update("repetition" for text in answers_of(row) if repetition(text))
        if isinstance(row, Pair) and row.chosen == row.rejected:
            kinds.add("equal_pair")
        if _broken_order(row):
            kinds.add("broken_roles")
        if self._limits.max_characters and length > self._limits.max_characters:
            kinds.add("too_long")
        if self._limits.count is not None:
            tokens = sum(map(self._limits.count, texts))
            self.tokens += tokens
            if self._limits.max_tokens and tokens > self._limits.max_tokens:
                kinds.add("too_long")
        yield from sorted(kinds)


def _broken_order(row: Row) -> bool:
    """A system message that is not the first, two questions in a row, or an answer before the question."""
    roles = ["system" if message.role == "developer" else message.role for message in messages_of(row)]
    if isinstance(row, Pair):
        roles = roles[:-1]
    if "system" in roles[1:]:
        return True
    spoken = [role for role in roles if role != "system"]
    pairs = list(pairwise(spoken))
    return bool(spoken) and (spoken[0] != "user" or ("user", "user") in pairs or ("assistant", "assistant") in pairs)


def _hash(data: bytes) -> int:
    import hashlib  # noqa: PLC0415

    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _repeated(hashes: "array[int]") -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices of values that an earlier index has too, in order."""
    values = np.frombuffer(hashes, np.uint64) if len(hashes) else np.empty(0, np.uint64)
    order = np.argsort(values, kind="stable")
    again = values[order][1:] == values[order][:-1]
    return np.sort(order[1:][again])
