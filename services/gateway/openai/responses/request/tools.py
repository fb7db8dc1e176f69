"""Tools and `tool_choice` as responses have them: flat. What is not a function is refused by name."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.gateway.dialects.bounds import MAX_TOOLS
from services.gateway.dialects.json_values import JsonObject
from services.gateway.openai.tool_choice import ToolSelection
from services.gateway.openai.tools import FunctionDefinition, FunctionName, ToolDefinition

_ELSEWHERE = frozenset({"async", "defer_loading", "allowed_callers", "output_schema"})
"""Fields of OpenAI's functions that mean something to its own tools only."""
_OFF: tuple[Any, ...] = (None, False, ["direct"])


class FunctionTool(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None

    def definition(self) -> ToolDefinition:
        """As a chat has it."""
        function = FunctionDefinition.model_construct(
            name=self.name, description=self.description, parameters=self.parameters, strict=self.strict
        )
        return ToolDefinition.model_construct(type="function", function=function)

    def shown(self) -> dict[str, Any]:
        """As the response repeats it."""
        names = ("type", "name", "description", "parameters", "strict")
        return {name: getattr(self, name) for name in names}


def _function(tool: object) -> object:
    if not isinstance(tool, Mapping):
        msg = 'expected an object like {"type": "function", "name": "…", "parameters": {…}}'
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    if tool.get("type") != "function":
        msg = (
            f"a tool of type {tool.get('type')!r:.80} is not supported: LLMOS hosts no tools; give tools of type"
            " 'function', and run them yourself"
        )
        raise ValueError(msg)
    for name in set(tool) - set(FunctionTool.model_fields):
        if name not in _ELSEWHERE or tool[name] not in _OFF:
            msg = f"{name!r:.80} is not supported in a function"
            raise ValueError(msg)
    return tool


Tools = Annotated[
    tuple[Annotated[FunctionTool, BeforeValidator(_function)], ...], Field(strict=False, max_length=MAX_TOOLS)
]


def _nested(choice: object) -> object:
    """A choice as a chat has it; raises `ValueError` for one that needs a tool that LLMOS would host."""
    if not isinstance(choice, Mapping):
        return choice
    match dict(choice):
        case {"type": "function", **others}:
            return {"type": "function", "function": others}
        case {"type": "allowed_tools", "mode": mode, "tools": list(tools), **others}:
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": _allowed(tools)}, **others}
        case {"type": "allowed_tools", "tools": list(tools), **others}:
            return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": _allowed(tools)}, **others}
        case {"type": kind}:
            msg = f"{kind!r:.80} is not supported: expected 'none', 'auto', 'required', 'function' or 'allowed_tools'"
            raise ValueError(msg)
    return choice


def _allowed(tools: list[Any]) -> list[Any]:
    return [
        {"type": "function", "function": {"name": tool.get("name")}}
        if isinstance(tool, Mapping) and tool.get("type") == "function"
        else tool
        for tool in tools
    ]


_NAMED = {
    "type": "object",
    "required": ["type", "name"],
    "properties": {"type": {"const": "function"}, "name": {"type": "string"}},
}
_ALLOWED = {
    "type": "object",
    "required": ["type", "tools"],
    "properties": {
        "type": {"const": "allowed_tools"},
        "mode": {"enum": ["auto", "required"]},
        "tools": {"type": "array", "items": _NAMED},
    },
}
Choice = Annotated[
    ToolSelection,
    BeforeValidator(_nested),
    WithJsonSchema({"anyOf": [{"enum": ["none", "auto", "required"]}, _NAMED, _ALLOWED, {"type": "null"}]}),
]
"""A request's `tool_choice`."""


def shown_choice(choice: ToolSelection) -> Any:
    """A choice as the response repeats it."""
    if choice is None:
        return "auto"
    if choice.function is not None:
        return {"type": "function", "name": choice.function.name}
    if choice.allowed_tools is not None:
        tools = [{"type": "function", "name": tool.function.name} for tool in choice.allowed_tools.tools]
        return {"type": "allowed_tools", "mode": choice.allowed_tools.mode, "tools": tools}
    return choice.type
