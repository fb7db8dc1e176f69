"""pydantic's errors in the words of JSON and of this API."""

from collections.abc import Mapping, Sized
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from shared.contracts.manifest import NAME_PATTERN, NAME_RULE
from shared.errors import InvalidInput

_SHOWN = 80
"""Characters of a wrong value, at most."""
_KINDS: Mapping[str, str] = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
}
"""By pydantic's type of an error."""


def explain(error: ValidationError, names: Mapping[str, str] = MappingProxyType({})) -> InvalidInput:
    """The first mistake as an error that says what to change.

    Args:
        error: Of the model that was validated.
        names: What the client calls fields that the model has under other names.
    """
    first: Mapping[str, Any] = error.errors(include_url=False)[0]
    kind, message = first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return InvalidInput(f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}")
    parts = [str(part)[:_SHOWN] for part in first["loc"]]
    param = ".".join([names.get(part, part) for part in parts[:1]] + parts[1:])
    if not param:
        return InvalidInput(f"the body must be a JSON object: {message}")
    return InvalidInput(_of_field(param, first, message), param=param)


def _of_field(param: str, first: Mapping[str, Any], message: str) -> str:
    match first["type"]:
        case "missing":
            return f"{param} is required"
        case "extra_forbidden":
            return f"unrecognized request argument: {param}"
        case "too_short" if first["ctx"]["min_length"] == 1:
            return f"{param} is empty; give one or more"
        case "too_short":
            return f"{param}: give {first['ctx']['min_length']} or more"
        case "too_long":
            return _too_long(param, first["ctx"], first["input"])
        case kind:
            is_name = first.get("ctx", {}).get("pattern") == NAME_PATTERN
            expected = f"expected {NAME_RULE}" if is_name else _KINDS.get(kind, message)
            return f"{param}: {expected}{_shown(first['input'])}"


def _too_long(param: str, context: Mapping[str, Any], given: object) -> str:
    """Pydantic stops counting behind the bound; what was given says how many there were, unless it was JSON."""
    count = context["actual_length"] or (len(given) if isinstance(given, Sized) else None)
    number = f"more than {context['max_length']}" if count is None else str(count)
    return f"{param}: {number} are given; at most {context['max_length']} are taken"


def _shown(given: object) -> str:
    return f" (got {given!r:.{_SHOWN}})" if isinstance(given, str | int | float | bool | None) else ""


def is_no_json(error: ValidationError) -> bool:
    """Whether the text that was parsed is no JSON."""
    return error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid"
