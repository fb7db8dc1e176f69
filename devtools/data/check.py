"""Findings about rows before any training: what is wrong, how often, and where first."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from devtools.data import private
from devtools.data.clean import broken_text
from devtools.data.length import Tokenizer
from devtools.data.overlap import Index, overlaps
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
    tokenizer: counts tokens
    regions: whose national phone numbers count
    suites: by name, the word sequences of suites that rows must not share
    """

    max_characters: int = 0
    max_tokens: int = 0
    tokenizer: Tokenizer | None = None
    regions: tuple[str, ...] = ()
    suites: Mapping[str, Mapping[int, Index]] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """What was found, how often, and the first places."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count a finding."""
        self.counts[kind] += 1
        places = self.examples.setdefault(kind, [])
        if len(places) < EXAMPLES and where not in places:
            places.append(where)

    def merge(self, other: "Tally") -> None:
        """Add what was found in later rows."""
        self.counts.update(other.counts)
        for kind, places in other.examples.items():
            own = self.examples.setdefault(kind, [])
            own.extend(place for place in places[: EXAMPLES - len(own)] if place not in own)

    def add_repeated(self, kind: str, hashes: "array[int]", where: Callable[[int], str]) -> None:
        """Count the values that an earlier index has too; `where` gives the place of an index."""
        repeated = _repeated(hashes)
        if len(repeated):
            self.counts[kind] += len(repeated)
            self.examples[kind] = [where(int(index)) for index in repeated[:EXAMPLES]]

    def findings(self) -> tuple[Finding, ...]:
        """All, by kind."""
        return tuple(
            Finding(kind=kind, count=count, examples=tuple(self.examples.get(kind, ())))
            for kind, count in sorted(self.counts.items())
        )


def defects_of(row: Row, limits: Limits) -> list[str]:
    """Kinds of defects of a row by itself."""
    texts = list(texts_of(row))
    kinds: set[str] = set()
    for text in texts:
        kinds.update(broken_text(text))
        kinds.update(f"personal_data.{span.kind}" for span in private.find(text, regions=limits.regions))
    kinds.update("repetition" for text in answers_of(row) if repetition(text))
    if isinstance(row, Pair) and row.chosen == row.rejected:
        kinds.add("equal_pair")
    if _broken_order(row):
        kinds.add("broken_roles")
    if limits.max_characters and sum(map(len, texts)) > limits.max_characters:
        kinds.add("too_long")
    if limits.max_tokens and limits.tokenizer is not None and limits.tokenizer.count_row(row) > limits.max_tokens:
        kinds.add("too_long")
    kinds.update(f"overlap.{suite}" for suite, index in limits.suites.items() if overlaps(row, index))
    return sorted(kinds)


class Checker:
    """Takes rows with their places one by one, in bounded memory (32 bytes a row), and says what it found.

    Args:
        limits: Of a row.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._places = Places()
        self._ids = array("Q")
        self._own_ids = array("Q")
        self._own_places = Places()
        self.tally = Tally()

    def add(self, located: Located) -> None:
        """Check what an object of a file gave."""
        if located.own_id:
            self._own_ids.append(_hash(located.own_id.encode()))
            self._own_places.add(located.where)
        if located.defect is not None:
            self.tally.add(located.defect.kind, located.where)
        for row in located.rows:
            self._places.add(located.where)
            self._ids.append(int(row.id[:16], 16))
            for kind in defects_of(row, self._limits):
                self.tally.add(kind, located.where)

    def place(self, index: int) -> str:
        """Where the row with this number is."""
        return self._places[index]

    def findings(self) -> tuple[Finding, ...]:
        """All that was found, by kind. Once, at the end."""
        self.tally.add_repeated("duplicate", self._ids, self._places.__getitem__)
        self.tally.add_repeated("duplicate_id", self._own_ids, self._own_places.__getitem__)
        return self.tally.findings()


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
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _repeated(hashes: "array[int]") -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices of values that an earlier index has too, in order."""
    values = np.frombuffer(hashes, np.uint64) if len(hashes) else np.empty(0, np.uint64)
    order = np.argsort(values, kind="stable")
    again = values[order][1:] == values[order][:-1]
    return np.sort(order[1:][again])
