"""The table `[search]`: how many trials, and which keys of a recipe take which values.

trials = 16
over = { lr = "1e-4..1e-2", rank = "4,8,16" }

A range of whole numbers gives whole numbers. A range over a factor of ten or more is even in its logarithm.
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import Field, ValidationError

from devtools.train.recipe import Recipe, parse_recipe
from devtools.train.recipe.errors import explain, keys
from devtools.train.recipe.tables import Table
from shared.errors import InvalidInput

TABLE = "search"
Scalar = bool | int | float | str
_RANGE = re.compile(r"\s*([^\s,]+?)\s*\.\.\s*([^\s,]+?)\s*")
_LOG_FROM = 10.0
"""A range whose ends differ by this factor is even in its logarithm."""
_SHORT = {"lr": "optimizer.learning_rate"}
_MEASURE = ("method", "max_len", "too_long", "validation", "dpo", "distil", "scratch.vocab")
"""Keys that change what a loss on held-out rows means: losses of two trials could not be compared."""


class SearchTable(Table):
    """A search."""

    trials: int = Field(default=16, ge=1, le=10_000)
    over: dict[str, str | tuple[Scalar, ...]] = Field(min_length=1)
    """Key -> `low..high`, or values between commas."""
    reduction: int = Field(default=3, ge=2)
    """Of so many trials that reach a validation, one goes on to the next, which is as many times further away."""
    seed: int = Field(default=0, ge=0)
    """Of the values that are tried; the recipe's own is that of each training."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    whole: bool
    logarithmic: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values."""

    values: tuple[Scalar, ...]


Space = Mapping[str, Range | Choice]
"""Dotted key of the recipe -> what it may be."""


def parse_search(values: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[SearchTable, Space]:
    """The search with these keys over the recipe with those.

    Raises:
        InvalidInput: one line that names the key, and what was expected.
    """
    try:
        table = SearchTable.model_validate(values)
    except ValidationError as error:
        message, param = explain(error, SearchTable)
        raise InvalidInput(message.replace("recipe:", f"recipe, [{TABLE}]:", 1), param=param) from None
    space = {full_key(key): _values(key, given) for key, given in table.over.items()}
    for key, one in space.items():
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _MEASURE):
            raise InvalidInput(
                f"over {key}: it changes what the loss on held-out rows means, so trials could not be compared",
                param=key,
            )
        for value in one.values if isinstance(one, Choice) else (one.low, one.high):
            whole = isinstance(one, Range) and one.whole
            parse_recipe(with_values(recipe, {key: int(value) if whole else value}))
    return table, space


def parse_over(given: Sequence[str]) -> dict[str, str]:
    """The key `over` from words such as `lr=1e-4..1e-2`."""
    over: dict[str, str] = {}
    for word in given:
        key, equals, values = word.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise InvalidInput(f"--over {word!r}: expected KEY=LOW..HIGH or KEY=VALUE,VALUE", param="over")
        over[key.strip()] = values.strip()
    return over


def with_values(recipe: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a recipe with other values at dotted keys."""
    result = {name: dict(value) if isinstance(value, Mapping) else value for name, value in recipe.items()}
    for key, value in values.items():
        *tables, last = key.split(".")
        place = result
        for table in tables:
            place[table] = dict(place.get(table) or {})
            place = place[table]
        place[last] = value
    return result


def full_key(key: str) -> str:
    """The dotted key of a short one: `rank` is `adapter.rank`.

    Raises:
        InvalidInput: several tables have it, or none.
    """
    if key in _SHORT or "." in key or key in Recipe.model_fields:
        return _SHORT.get(key, key)
    known = keys(Recipe)
    found = [name for name in known if name.rsplit(".", 1)[-1] == key]
    if len(found) > 1:
        raise InvalidInput(f"over {key}: which of {', '.join(found)}?", param=key)
    if not found:
        ends = {name.rsplit(".", 1)[-1]: name for name in known}
        near = get_close_matches(key, ends, n=1, cutoff=0.4)
        advice = f"; did you mean {ends[near[0]]!r}?" if near else ""
        raise InvalidInput(f"over {key}: a recipe has no such key{advice}", param=key)
    return found[0]


def _values(key: str, given: str | tuple[Scalar, ...]) -> Range | Choice:
    if isinstance(given, str):
        ends = _RANGE.fullmatch(given)
        if ends is not None:
            return _range(key, _scalar(ends[1]), _scalar(ends[2]))
        given = tuple(_scalar(word.strip()) for word in given.split(","))
    if len(set(given)) != len(given) or "" in given or len(given) < 2:
        raise InvalidInput(
            f"over {key}: expected LOW..HIGH, or two or more different values between commas", param=key
        )
    return Choice(given)


def _range(key: str, low: Scalar, high: Scalar) -> Range:
    if isinstance(low, bool | str) or isinstance(high, bool | str) or not -math.inf < low < high < math.inf:
        raise InvalidInput(f"over {key}: {low}..{high} is no range of numbers, the lower one first", param=key)
    return Range(
        low, high, isinstance(low, int) and isinstance(high, int), logarithmic=low > 0 and high / low >= _LOG_FROM
    )


def _scalar(text: str) -> Scalar:
    try:
        value: Scalar = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
