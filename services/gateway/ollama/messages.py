"""Ollama's messages and tools, and the contract's of them.

Ollama's calls need no ids: a result belongs to the first call of its tool that has none yet.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from services.gateway.dialects.bounds import MAX_PARTS, MAX_TOOLS
from services.gateway.dialects.json_values import JsonObject
from services.gateway.dialects.tools import parameters_text
from shared.contracts.replica import ChatMessage, Tool, ToolCall
from shared.errors import InvalidInput
from shared.text.client_json import json_text


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class CalledFunction(_Strict):
    """The function that an assistant's message called."""

    index: int | None = None
    name: str
    arguments: JsonObject | None = None


class MessageToolCall(_Strict):
    """A call of an assistant's message."""

    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunction


def _no_images(images: tuple[Any, ...]) -> tuple[Any, ...]:
    if images:
        msg = "images are not supported: models here read text"
        raise ValueError(msg)
    return images


def _lower(role: object) -> object:
    return role.lower() if isinstance(role, str) else role


class Message(_Strict):
    """One message of the conversation."""

    role: Annotated[Literal["system", "user", "assistant", "tool"], BeforeValidator(_lower)]
    content: str | None = None
    thinking: str | None = None
    images: Annotated[tuple[Any, ...], AfterValidator(_no_images)] | None = Field(
        default=None, strict=False, max_length=MAX_PARTS
    )
    tool_calls: tuple[MessageToolCall, ...] | None = Field(default=None, strict=False, max_length=MAX_TOOLS)
    tool_name: str | None = None
    """Of a tool's message: the tool whose result it is."""
    name: str | None = None
    """The older name of `tool_name`."""
    tool_call_id: str | None = None
    """Of a tool's message: the call whose result it is; without it, `tool_name` and the order say it."""


class FunctionDefinition(_Strict):
    """A function that the model may call."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolDefinition(_Strict):
    """One of `tools`."""

    type: Literal["function"] | None = "function"
    function: FunctionDefinition
    items: Any = None
    """Accepted without effect: Ollama shows it to no template."""

    @property
    def tool(self) -> Tool:
        """The contract's."""
        return Tool(
            name=self.function.name,
            description=self.function.description,
            parameters=parameters_text(self.function.parameters),
            strict=bool(self.function.strict),
        )


def chat_messages(messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The contract's messages; raises `InvalidInput` for a result without its call, or calls of another role."""
    chat: list[ChatMessage] = []
    calls: list[ToolCall] = []
    """Calls without a result yet."""
    made = 0
    for index, message in enumerate(messages):
        mine: list[ToolCall] = []
        for call in message.tool_calls or ():
            arguments = json_text(call.function.arguments or {})
            mine.append(ToolCall(id=call.id or f"call_{made}", name=call.function.name, arguments=arguments))
            made += 1
        if mine and message.role != "assistant":
            raise InvalidInput(
                f"messages.{index}.tool_calls belong to messages of the role 'assistant'",
                param=f"messages.{index}.tool_calls",
            )
        answered = _called(index, message, calls) if message.role == "tool" else None
        if message.role != "tool":
            calls = mine
        chat.append(
            ChatMessage(
                role=message.role,
                content=message.content or "",
                reasoning=message.thinking or None,
                tool_calls=tuple(mine),
                tool_call_id=answered,
            )
        )
    return tuple(chat)


def _called(index: int, message: Message, calls: list[ToolCall]) -> str:
    """The id of the call whose result a message is; it is removed from `calls`."""
    name, call_id = message.tool_name or message.name, message.tool_call_id
    for call in calls:
        if (call_id is None or call.id == call_id) and (name is None or call.name == name):
            calls.remove(call)
            return call.id
    of = (
        f"the tool {name!r}"
        if call_id is None and name is not None
        else f"the id {call_id!r}"
        if call_id
        else "a tool"
    )
    raise InvalidInput(
        f"messages.{index} is a result, but no call of {of} without one is in the assistant's message before",
        param=f"messages.{index}",
    )
