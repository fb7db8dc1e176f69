"""Parameters that a dialect's clients send and that are no fields of its request models.

Those without effect here are accepted. Those known but not supported are accepted only with a value that means "off".
Unknown ones are refused by name: a misspelt `temperatur` that is silently dropped costs an afternoon.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Ignored:
    """Annotates a field of a request model that is accepted without effect."""

    why: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of one kind of request. The table in docs/api.md is made from them."""

    ignored: Mapping[str, str] = field(default_factory=dict)
    """Without effect; by name, with why that is right."""
    refused: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Not supported; by name, with the values that mean "off" besides null."""

    def check(self, name: str, value: object, param: str | None = None) -> None:
        """Raise `InvalidInput` unless the parameter may stand there.

        Args:
            name: As in the tables.
            value: As it was given.
            param: What the error calls it, where that is not `name`.
        """
        param = (param or name)[:200]
        if name in self.ignored:
            return
        if name not in self.refused:
            raise InvalidInput(f"unrecognized request argument: {param}", param=param)
        if value is None or any(
            type(value) is type(off) and value == off for off in _with_floats(self.refused[name])
        ):
            return
        raise InvalidInput(f"{param} is not supported yet", param=param)


def _with_floats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """0 and 0.0 both mean off; True and 1 do not mean the same."""
    return (*values, *(float(value) for value in values if type(value) is int))
