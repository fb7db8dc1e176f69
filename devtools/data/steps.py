"""Steps of preparation: pure functions on rows, each with a name, a version of its rules, and parameters.

A row step looks at one row. A whole step looks at all of them: each row gives numbers (`sketch`), and from all of
these it is decided which rows stay. Both are dataclasses: their fields are the parameters that a version records.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from devtools.data.columns import Columns
from devtools.data.rows import Row
from devtools.data.words import nearest
from shared.errors import InvalidInput

Flags = NDArray[np.bool_]
Value = str | int | float | bool | tuple[str, ...]


@runtime_checkable
class RowStep(Protocol):
    """Looks at one row."""

    name: ClassVar[str]
    version: ClassVar[int]

    def apply(self, row: Row) -> Sequence[Row]:
        """Nothing: the row is dropped. The same object: it is unchanged. Several: the row and what was made of it."""


@runtime_checkable
class WholeStep(Protocol):
    """Looks at all rows."""

    name: ClassVar[str]
    version: ClassVar[int]

    def sketch(self, rows: Sequence[Row]) -> Mapping[str, NDArray[Any]]:
        """What is to be known of the rows: named columns, with a number, or some, for each row."""

    def decide(self, columns: Columns, row: Callable[[int], Row]) -> Flags:
        """Which rows stay; `row` reads one again by its number."""


AnyStep = RowStep | WholeStep


def parameters_of(step: AnyStep) -> dict[str, Value]:
    """What a version records of a step. Fields that begin with `_` are found out from others."""
    return {
        one.name: getattr(step, one.name)
        for one in dataclasses.fields(step)  # type: ignore[arg-type]  # each is a dataclass
        if _is_parameter(one)
    }


def _is_parameter(one: "dataclasses.Field[Any]") -> bool:
    return not one.name.startswith("_") and bool(one.metadata.get("recorded", True))


def make(
    kinds: Mapping[str, type[Any]], name: str, parameters: Mapping[str, Any], extra: Mapping[str, Any]
) -> AnyStep:
    """The step with a name; `extra` has what is no parameter: a tokenizer, the words of suites.

    Raises:
        InvalidInput: An unknown name or parameter, with the nearest one; a value of another type.
    """
    if name not in kinds:
        raise InvalidInput(f"step {name!r}: there is none{nearest(name, kinds)}", param="step")
    kind = kinds[name]
    fields = {one.name: one for one in dataclasses.fields(kind) if _is_parameter(one)}
    values = {}
    for key, value in parameters.items():
        if key not in fields:
            raise InvalidInput(f"step {name}: {key!r} is no parameter{nearest(key, fields)}", param=key)
        values[key] = _typed(name, fields[key], value)
    missing = [
        key
        for key, one in fields.items()
        if key not in values and one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidInput(f"step {name}: {', '.join(missing)} must be given", param=missing[0])
    step: AnyStep = kind(**values, **extra)
    return step


def _typed(step: str, field: "dataclasses.Field[Any]", value: Any) -> Any:
    expected = getattr(field.type, "__name__", str(field.type))
    match expected:
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "float" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "str" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "tuple" if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    names = {"int": "a whole number", "float": "a number", "str": "a text", "tuple": "a list of texts"}
    raise InvalidInput(
        f"step {step}: {field.name}: expected {names.get(expected, expected)}, found {value!r:.60}", param=field.name
    )
