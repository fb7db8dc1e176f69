"""Tools in OpenAI's requests and responses."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.dialects.bounds import MAX_TOOLS
from services.gateway.dialects.json_values import ArgumentsText, JsonObject
from services.gateway.dialects.tools import check_names, parameters_text
from services.gateway.openai.tool_choice import Selection, ToolSelection
from shared.contracts.gateway import GeneratedToolCall
from shared.contracts.replica import Tool, ToolCall, ToolChoice

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class FunctionDefinition(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None
    """A JSON schema; without it, the function takes nothing."""
    strict: bool | None = None


class ToolDefinition(BaseModel):
    """One of `tools`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Literal["function"]
    function: FunctionDefinition

    def tool(self) -> Tool:
        """The contract's."""
        function = self.function
        return Tool(
            name=function.name,
            description=function.description,
            parameters=parameters_text(function.parameters),
            strict=bool(function.strict),
        )


class CalledFunction(BaseModel):
    """The function that an assistant's message called."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    name: str
    arguments: ArgumentsText = ""


class MessageToolCall(BaseModel):
    """A call of an assistant's message."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    id: str
    type: Literal["function"] | None = "function"
    function: CalledFunction

    def call(self) -> ToolCall:
        """The contract's."""
        return ToolCall(id=self.id, name=self.function.name, arguments=self.function.arguments)


class ToolRequest(BaseModel):
    """The fields of a chat request."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    tools: tuple[ToolDefinition, ...] | None = Field(default=None, strict=False, max_length=MAX_TOOLS)
    tool_choice: ToolSelection = None
    parallel_tool_calls: bool | None = None

    @property
    def may_call(self) -> bool:
        """Whether the answer may have tool calls."""
        return bool(self.tools) and (self.tool_choice is None or self.tool_choice.type != "none")

    def contract_tools(self) -> tuple[Tool, ...]:
        """The contract's tools; raises `InvalidInput` if two have one name."""
        tools = tuple(definition.tool() for definition in self.tools or ())
        check_names(tools, "tools.{}.function.name")
        return tools

    def contract_choice(self) -> ToolChoice:
        """The contract's choice; raises `InvalidInput` if it names what is none of the tools."""
        parallel = self.parallel_tool_calls is not False
        names = [definition.function.name for definition in self.tools or ()]
        return (self.tool_choice or Selection(type="auto")).choice(names, parallel=parallel)


def call_objects(calls: Sequence[GeneratedToolCall]) -> list[dict[str, Any]]:
    """Calls as a message has them."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def delta_objects(calls: Sequence[GeneratedToolCall]) -> list[dict[str, Any]]:
    """Calls as a stream's chunk has them, each in one piece."""
    return [{"index": call.index, **each} for call, each in zip(calls, call_objects(calls), strict=True)]
