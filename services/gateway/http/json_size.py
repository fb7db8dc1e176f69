"""How much work it is to parse a JSON text, told without parsing it.

A parser makes an object of each value, so a body of few megabytes may cost seconds and hundreds of megabytes: eight
million token ids, half a million messages, four million empty lists. A long text costs next to nothing.
"""

import re

from shared.errors import InvalidInput

MAX_VALUES = 300_000
"""Values of one body: a prompt of 262,144 token ids and all that can be beside it."""
MAX_CONTAINERS = 1 << 15
"""Objects and lists of one body: 2,048 messages of several parts, or 128 tools with large schemas."""
MAX_ESCAPES = 500_000
"""Backslashes of one body, each of which a parser stops at: a Chinese text of a million tokens in UTF-8 has few."""

_STRINGS = re.compile(rb'(?:[^"]{0,4096}+"[^"\\]{0,4096}+(?:\\.[^"\\]{0,256}+){0,64}+"){1,64}+', re.DOTALL)
"""Up to 64 short strings with what is before each: many short ones would take many steps of Python."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_WINDOW = 1 << 20
"""Bytes that are counted at once: a millisecond in which no other thread runs."""


def check_json_size(text: bytes) -> None:
    """Raise `InvalidInput` if a JSON text has more values, objects and lists, or escapes than are parsed.

    Values are counted by the commas between them: exactly, once those in texts could make too many.
    """
    escapes = sum(text.count(b"\\", at, at + _WINDOW) for at in range(0, len(text), _WINDOW))
    if escapes > MAX_ESCAPES:
        raise InvalidInput(
            f"the body has {escapes} backslashes; at most {MAX_ESCAPES} are taken: write characters in UTF-8, not as"
            r" \u escapes"
        )
    values, containers = _count(text, 0, len(text))
    if values <= MAX_VALUES and containers <= MAX_CONTAINERS:
        return
    values = containers = at = 0
    while at < len(text):
        if strings := _STRINGS.match(text, at):
            bare = _STRING.sub(b"", strings[0])
            more_values, more_containers = _count(bare, 0, len(bare))
            at = strings.end()
        else:
            quote = text.find(b'"', at)
            end = len(text) if quote < 0 else quote
            more_values, more_containers = _count(text, at, end)
            at = _behind_string(text, end + 1)
        values, containers = values + more_values, containers + more_containers
        if values > MAX_VALUES:
            raise InvalidInput(f"the body has more than {MAX_VALUES} JSON values; at most {MAX_VALUES} are taken")
        if containers > MAX_CONTAINERS:
            raise InvalidInput(
                f"the body has more than {MAX_CONTAINERS} JSON objects and lists; at most {MAX_CONTAINERS} are taken"
            )


def _count(text: bytes, begin: int, end: int) -> tuple[int, int]:
    """(commas, opening brackets) in a part of a text."""
    values = containers = 0
    for at in range(begin, end, _WINDOW):
        behind = min(at + _WINDOW, end)
        values += text.count(b",", at, behind)
        containers += text.count(b"[", at, behind) + text.count(b"{", at, behind)
    return values, containers


def _behind_string(text: bytes, at: int) -> int:
    """Where a string that begins before `at` has ended."""
    quote = -1
    while True:
        if quote < at:
            quote = text.find(b'"', at)
        if quote < 0:
            return len(text)
        escape = text.find(b"\\", at, quote)
        if escape < 0:
            return quote + 1
        at = escape + 2
