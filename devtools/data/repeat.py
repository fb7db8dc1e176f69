"""Texts that repeat themselves, by the rules of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1)."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from devtools.data.rows import Row
from devtools.data.texts import answers_of

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
"""A word; of Chinese and Japanese a character."""
_MIN_WORDS = 40
"""Of a text that is judged: shorter ones repeat words by chance."""
_MIN_PARTS = 4
_PARTS, _PARTS_CHARACTERS = 0.30, 0.20
"""The share of lines, or paragraphs, that may be repeated ones; and of their characters."""
_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
"""Of the most frequent n words: the share of the characters that they may have."""
_DUPLICATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Of all n words that occur again: the share of the characters that they may have."""
_MAX_WORDS = 20_000
"""Of a longer text the beginning is judged."""


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.lower())


def repetition(text: str) -> str:
    """Why the text counts as repetition: `2 words make up 31 %`; empty if it does not."""
    if "\n" in text and (why := _repeated_parts(text)):
        return why
    found = words(text)[:_MAX_WORDS]
    if len(found) < _MIN_WORDS or _all_differ(found, 2):
        return ""
    total = sum(map(len, found))
    for n, most in _TOP.items():
        top, count = Counter(_sequences(found, n)).most_common(1)[0]
        if count > 1 and count * sum(map(len, top)) / total > most:
            return f"{n} words make up {count * sum(map(len, top)) / total:.0%}"
    if _all_differ(found, min(_DUPLICATED)):
        return ""
    for n, most in _DUPLICATED.items():
        share = _duplicated(found, n) / total
        if share > most:
            return f"{n} words in a row that occur again make up {share:.0%}"
    return ""


def _repeated_parts(text: str) -> str:
    for unit, pattern in (("lines", r"\n+"), ("paragraphs", r"\n{2,}")):
        parts = [part.strip() for part in re.split(pattern, text) if part.strip()]
        if len(parts) >= _MIN_PARTS:
            again = [part for part, count in Counter(parts).items() for _ in range(count - 1)]
            if len(again) / len(parts) > _PARTS or sum(map(len, again)) / len(text) > _PARTS_CHARACTERS:
                return f"{len(again)} of {len(parts)} {unit} are repeated"
    return ""


def _all_differ(found: Sequence[str], n: int) -> bool:
    """Whether no n words occur twice: then no longer sequence does."""
    return len(set(_sequences(found, n))) == len(found) - n + 1


def _sequences(found: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(found[k:] for k in range(n)), strict=False)


def _duplicated(found: Sequence[str], n: int) -> int:
    """Characters of words that are in n words which occurred before."""
    seen: set[int] = set()
    covered = 0
    at = 0
    while at + n <= len(found):
        key = hash(tuple(found[at : at + n]))
        if key in seen:
            covered += sum(map(len, found[at : at + n]))
            at += n
        else:
            seen.add(key)
            at += 1
    return covered


@dataclass(frozen=True, slots=True)
class Repetition:
    """Drops rows whose answer, or text, repeats itself."""

    name: ClassVar[str] = "repetition"
    version: ClassVar[int] = 1

    def apply(self, row: Row) -> Sequence[Row]:
        """The row, or nothing."""
        return () if any(repetition(text) for text in answers_of(row)) else (row,)
