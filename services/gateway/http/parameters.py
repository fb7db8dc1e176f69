"""Parameters that a dialect's clients send and that are no fields of its request models.

Those without effect here are accepted. Those known but not supported are accepted only with a value that means "off".
Unknown ones are refused by name: a misspelt `temperatur` that is silently dropped costs an afternoon.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from shared.errors import InvalidInput

IGNORED, ELSEWHERE = "x-llmos-ignored", "x-llmos-elsewhere"
"""Keywords of a field's schema in the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Annotates a field of a request model that is accepted without effect."""

    why: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The field's schema with the reason."""
        return {**handler(core), IGNORED: self.why}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Annotates a field that a request model inherits and whose clients send something else: it is refused."""

    instead: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The field's schema with what to do."""
        return {**handler(core), ELSEWHERE: self.instead}


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of one kind of request. The table in docs/api.md is made from them."""

    ignored: Mapping[str, str] = field(default_factory=dict)
    """Without effect; by name, with why that is right."""
    refused: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Not supported; by name, with the values that mean "off" besides null."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """What a client does instead of one that is not supported, where there is something."""

    def check_all(self, given: Mapping[str, object] | None) -> None:
        """Raise `InvalidInput` unless every parameter may stand there."""
        for name, value in (given or {}).items():
            self.check(name, value)

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
        if name not in self.instead:
            raise InvalidInput(f"{param} is not supported yet", param=param)
        shown = f" {value!r:.40}" if isinstance(value, str) else ""
        raise InvalidInput(f"{param}{shown} is not supported: {self.instead[name]}", param=param)


def _with_floats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """0 and 0.0 both mean off; True and 1 do not mean the same."""
    return (*values, *(float(value) for value in values if type(value) is int))
