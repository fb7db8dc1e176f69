"""OpenAI's `tool_choice`: a word, one tool, or the tools that are allowed."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from services.gateway.dialects.bounds import MAX_TOOLS
from services.gateway.dialects.tools import check_any, check_chosen
from shared.contracts.replica import ToolChoice

_WORDS, _OBJECTS = ("none", "auto", "required"), ("function", "allowed_tools")


class NamedFunction(BaseModel):
    """The function that a choice names."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str


class NamedTool(BaseModel):
    """One of the tools that are allowed."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(BaseModel):
    """Some of the request's tools."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    mode: Literal["auto", "required"]
    tools: tuple[NamedTool, ...] = Field(strict=False, min_length=1, max_length=MAX_TOOLS)


class Selection(BaseModel):
    """What was given; a word is its own type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Literal["none", "auto", "required", "function", "allowed_tools"]
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Selection":
        for kind, given in (("function", self.function), ("allowed_tools", self.allowed_tools)):
            if (self.type == kind) != (given is not None):
                msg = f"{kind} goes with the type {kind!r}, which needs it"
                raise ValueError(msg)
        return self

    def choice(self, names: Sequence[str], *, parallel: bool) -> ToolChoice:
        """The contract's; raises `InvalidInput` if it needs a tool that is not in `names`, the request's tools."""
        if self.type not in {"none", "auto"}:
            check_any(names)
        if self.function is not None:
            check_chosen(self.function.name, names, "tool_choice.function.name")
            return ToolChoice(mode="required", name=self.function.name, parallel=parallel)
        if self.allowed_tools is not None:
            for index, tool in enumerate(self.allowed_tools.tools):
                check_chosen(tool.function.name, names, f"tool_choice.allowed_tools.tools.{index}.function.name")
            allowed = tuple(dict.fromkeys(tool.function.name for tool in self.allowed_tools.tools))
            return ToolChoice(mode=self.allowed_tools.mode, allowed=allowed, parallel=parallel)
        mode: Literal["none", "auto", "required"] = "auto"
        if self.type in {"none", "required"}:
            mode = "none" if self.type == "none" else "required"
        return ToolChoice(mode=mode, parallel=parallel)


def _selection(given: object) -> object:
    if isinstance(given, str) and given in _WORDS:
        return {"type": given}
    if given is not None and (not isinstance(given, dict) or given.get("type") not in _OBJECTS):
        msg = "expected 'none', 'auto', 'required', or an object of the type 'function' or 'allowed_tools'"
        raise ValueError(msg)
    return given


_FUNCTION: dict[str, Any] = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
_NAMED: dict[str, Any] = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {"type": {"const": "function"}, "function": _FUNCTION},
}
_ALLOWED: dict[str, Any] = {
    "type": "object",
    "required": ["type", "allowed_tools"],
    "properties": {
        "type": {"const": "allowed_tools"},
        "allowed_tools": {
            "type": "object",
            "required": ["mode", "tools"],
            "properties": {"mode": {"enum": ["auto", "required"]}, "tools": {"type": "array", "items": _NAMED}},
        },
    },
}

ToolSelection = Annotated[
    Selection | None,
    BeforeValidator(_selection),
    WithJsonSchema({"anyOf": [{"enum": list(_WORDS)}, _NAMED, _ALLOWED, {"type": "null"}]}),
]
"""A request's field."""
