"""Tools as every dialect has them: each has a name of its own, and a choice names one of them."""

from collections.abc import Sequence
from typing import Any

from shared.contracts.replica import Tool
from shared.errors import InvalidInput
from shared.text.client_json import json_text

_NO_PARAMETERS = '{"type": "object", "properties": {}}'


def parameters_text(schema: dict[str, Any] | None) -> str:
    """The schema of a tool's arguments; without one, it takes nothing."""
    return json_text(schema) if schema else _NO_PARAMETERS


def check_names(tools: Sequence[Tool], param: str) -> None:
    """Raise `InvalidInput` if two tools have one name.

    Args:
        tools: In order.
        param: The field of a tool's name, with `{}` for its index.
    """
    names: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in names:
            raise InvalidInput(
                f"two tools are named {tool.name!r}; give each a name of its own", param=param.format(index)
            )
        names.add(tool.name)


def check_chosen(name: str, names: Sequence[str], param: str) -> None:
    """Raise `InvalidInput` if the tool that `param` names is none of the request's."""
    if name not in names:
        raise InvalidInput(f"tool_choice names {name!r}, which is none of the tools: {', '.join(names)}", param=param)


def check_any(names: Sequence[str]) -> None:
    """Raise `InvalidInput` if a call is asked for without a tool."""
    if not names:
        raise InvalidInput("tool_choice asks for a call, but there are no tools", param="tool_choice")
