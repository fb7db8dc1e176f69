"""Recipes as TOML: keys first, then tables; what is written reads back as the same values."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidInput


def parse_toml(text: str, called: str = "the recipe") -> dict[str, Any]:
    """The keys and tables of a text; raises InvalidInput that says why what is `called` so is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{called} is not TOML: {error}", param="recipe") from None


def change_value(values: dict[str, Any], key: str, text: str, change: str) -> None:
    """Set the value at a dotted `key` to what `text` means; one that is no value of TOML is a word without quotes.

    Args:
        values: Is changed.
        key: `optimizer.learning_rate`.
        text: `1e-3`.
        change: As it was asked for, for the message.

    Raises:
        InvalidInput: A part of the key is no table.
    """
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InvalidInput(f"{change}: {table!r} is not a table of the recipe", param="set")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text


def toml_text(values: Mapping[str, Any]) -> str:
    """The keys and tables of a recipe as TOML. Tables within a table are written inline."""
    lines = [_line(name, value) for name, value in values.items() if not isinstance(value, Mapping)]
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *(_line(key, value) for key, value in table.items())]
    return "\n".join(lines).strip("\n") + "\n"


def _line(name: str, value: Any) -> str:
    return f"{_key(name)} = {toml_value(value)}"


def _key(name: str) -> str:
    bare = name and all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name)
    return name if bare else _text(name)


def toml_value(value: Any) -> str:
    """A value as it stands behind `key =`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_line(key, inner) for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return repr(value)


def _text(text: str) -> str:
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped, and halves of surrogate pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
