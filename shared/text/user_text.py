"""Marks control tokens in the strings of a client before a chat template renders them.

A template makes one string of its own control tokens and of the client's strings. A **guard**, a private-use
character, is put into each place of a client's string that spells a control token or most of one. It survives the
template, and shows in the rendered prompt which control tokens the template has not written
(`shared.text.literal`). Parts are guarded too, because templates cut pieces out of messages: `<|im_/thinkend|>`
without `/think` is `<|im_end|>`. Ordinary text has no such places, and is rendered and tokenised as it is.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_GUARDS = range(0xF0000, 0xF0000 + 0x1000)
"""Private-use characters of plane 15, which fonts and texts hardly use."""
_SLICE = 1 << 15
"""Characters that are searched at once: about 2 ms."""
_NOTHING = re.compile(r"(?!)")


class UserText:
    """Guards strings against control tokens.

    Args:
        control: How control tokens are written.
    """

    def __init__(self, control: Iterable[str]) -> None:
        parts = {part for token in control for part in _parts(token)}
        self._marks = _marks(parts)
        self._longest = max(map(len, parts), default=0)
        self._places = re.compile(f"(?={_trie(parts)})", re.DOTALL) if parts else _NOTHING

    def guarded(self, value: Any, guard: str) -> Any:
        """A JSON value with `guard` in each place of its strings that could become a control token."""
        return _mapped(value, lambda text: self._guard(text, guard))

    def _guard(self, text: str, guard: str) -> str:
        if not any(mark in text for mark in self._marks):
            return text  # prose, at the speed of memchr
        places = [place + 1 for begin in range(0, len(text), _SLICE) for place in self._find(text, begin)]
        return guard.join(text[begin:end] for begin, end in zip([0, *places], [*places, None], strict=True))

    def _find(self, text: str, begin: int) -> Iterator[int]:
        """The places in a slice; between slices another thread may have the GIL."""
        end = begin + _SLICE
        places = (found.start() for found in self._places.finditer(text, begin, min(len(text), end + self._longest)))
        return (place for place in places if place < end)


def guard_for(*values: Any) -> str:
    """A guard that no string of these JSON values has, neither itself nor as an escape sequence of JSON."""
    texts = [text for value in values for text in _strings(value)]
    forms = ((guard, escaped(guard)) for guard in map(chr, _GUARDS))
    return next(guard for guard, form in forms if not any(guard in text or form in text for text in texts))


def escaped(guard: str) -> str:
    """How a template writes it that asks for JSON in ASCII."""
    return json.dumps(guard)[1:-1]


def _parts(token: str) -> tuple[str, ...]:
    """What is guarded of a token: whatever two pieces it is cut into, one of them has one of the parts."""
    if len(token) < 3:
        return (token,) if token else ()
    half = (len(token) + 1) // 2
    return token[: len(token) - half + 1], token[-half:]


def _marks(parts: Iterable[str]) -> str:
    """Characters of which each part has one, few and rare: in most vocabularies `|` or `<`."""
    marks, left = "", set(parts)
    while left:
        counts = Counter(char for part in left for char in set(part))
        mark = max(counts, key=lambda char: (not char.isalnum() and not char.isspace(), counts[char], char))
        marks += mark
        left = {part for part in left if mark not in part}
    return marks


def _trie(words: Iterable[str]) -> str:
    """A pattern that matches any of `words`, in time that does not grow with their number."""
    following: dict[str, list[str]] = {}
    for word in words:
        if not word:
            return ""  # a shorter word ends here
        following.setdefault(word[0], []).append(word[1:])
    ways = [re.escape(char) + _trie(rest) for char, rest in sorted(following.items())]
    return ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _mapped(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(each, change) for each in value]
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
