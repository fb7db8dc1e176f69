"""Tools in Anthropic's requests."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from services.gateway.dialects.json_values import JsonObject
from services.gateway.dialects.tools import check_any, check_chosen, parameters_text
from shared.contracts.replica import Tool, ToolChoice


def _custom(kind: str | None) -> str | None:
    if kind not in (None, "custom"):
        msg = f"the tool {kind!r:.80} is run by Anthropic's servers, and is not supported; only 'custom' tools are"
        raise ValueError(msg)
    return kind


class ToolDefinition(BaseModel):
    """A tool that the client runs."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Annotated[str | None, AfterValidator(_custom), WithJsonSchema({"enum": ["custom", None]})] = None
    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = None
    input_schema: JsonObject
    strict: bool | None = None
    cache_control: Any = None
    """Accepted without effect, like the fields below: tools are shown as they are, and calls are sent whole."""
    input_examples: Any = None
    eager_input_streaming: Any = None
    defer_loading: Any = None
    allowed_callers: Any = None

    @property
    def tool(self) -> Tool:
        """The contract's."""
        return Tool(
            name=self.name,
            description=self.description,
            parameters=parameters_text(self.input_schema),
            strict=bool(self.strict),
        )


class ToolSelection(BaseModel):
    """Which tools the answer calls."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    """With type `tool`."""
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _named(self) -> "ToolSelection":
        if (self.type == "tool") != (self.name is not None):
            msg = "name goes with the type 'tool', which needs it"
            raise ValueError(msg)
        return self

    def choice(self, names: Sequence[str]) -> ToolChoice:
        """The contract's; raises `InvalidInput` if it needs a tool that is none of the request's."""
        parallel = not self.disable_parallel_tool_use
        if self.type in ("auto", "none"):
            return ToolChoice(mode="none" if self.type == "none" else "auto", parallel=parallel)
        check_any(names)
        if self.name is not None:
            check_chosen(self.name, names, "tool_choice.name")
        return ToolChoice(mode="required", name=self.name, parallel=parallel)
