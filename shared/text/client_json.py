"""JSON that a client sent as text: the arguments of a call, a schema, values for a chat template.

Python's parser takes more than JSON, and its values may be more than other parsers and UTF-8 can hold.
"""

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 128
"""Levels of nesting: all that a template, the bus and the library of grammars take without a limit of their own."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""An escape sequence of JSON; the group has a surrogate without its other half."""


class TooDeep(ValueError):
    """The text is nested more than `MAX_DEPTH` levels deep."""

    def __init__(self) -> None:
        super().__init__(f"it is nested more than {MAX_DEPTH} levels deep")


def parse_json(text: str) -> Any:
    """The value of a JSON text. Half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD.

    Raises:
        TooDeep: It is nested too deeply.
        ValueError: It is not JSON (RFC 8259), or has a number that no double holds.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise TooDeep from None
    if depth(value) > MAX_DEPTH:
        raise TooDeep
    return _replaced(value) if "\\u" in text or _SURROGATE.search(text) else value


def json_text(value: Any) -> str:
    """A parsed value as JSON text; raises `ValueError` as `parse_json` does."""
    if depth(value) > MAX_DEPTH:
        raise TooDeep
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def depth(value: Any) -> int:
    """Levels of nesting, without recursion; a value that is neither a list nor an object has one."""
    levels, level = 0, [value]
    while level:
        levels += 1
        level = [child for each in level for child in _children(each)]
    return levels


def without_lone_surrogates(text: bytes) -> bytes:
    r"""A JSON text with `\ufffd` for each half of a surrogate pair."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)


def _children(value: Any) -> "list[Any]":
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _replaced(value: Any) -> Any:
    """`value` with U+FFFD for each lone surrogate. Its depth is bounded."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_replaced(each) for each in value]
    if isinstance(value, dict):
        return {_replaced(name): _replaced(each) for name, each in value.items()}
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"no double holds {digits:.40}")
    return number
