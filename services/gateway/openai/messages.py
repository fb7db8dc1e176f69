"""Messages in OpenAI's requests: those that people write, and those that servers returned and clients send back."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from services.gateway.dialects.bounds import MAX_TOOLS
from services.gateway.openai.text_parts import text_parts
from services.gateway.openai.tools import MessageToolCall
from shared.contracts.replica import ChatMessage

_TEXTS = {"text": "text", "refusal": "refusal"}
"""By the type of a part of a message: the key of its text."""


def _flatten(content: object) -> object:
    """Text parts as one text, joined with line breaks, as vLLM does for text-only models."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(text for _, text in text_parts(content, _TEXTS, '{"type": "text", "text": "…"}'))


_TextParts = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "text"],
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            },
        },
        {"type": "null"},
    ]
}


class Message(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_flatten), WithJsonSchema(_TextParts)] = ""
    name: str | None = None
    tool_calls: tuple[MessageToolCall, ...] | None = Field(default=None, strict=False, max_length=MAX_TOOLS)
    """Of an assistant's message."""
    tool_call_id: str | None = None
    """Of a tool's message: the call whose result it is."""
    refusal: str | None = None
    """Of an assistant's message: what it said instead of an answer."""
    reasoning_content: str | None = None
    """Of an assistant's message, as vLLM and DeepSeek return it: the thoughts before it."""
    reasoning: str | None = None
    """vLLM's newer name of `reasoning_content`."""

    @model_validator(mode="after")
    def _tool_fields(self) -> "Message":
        if self.tool_calls and self.role != "assistant":
            msg = "tool_calls belong to messages of the role 'assistant'"
            raise ValueError(msg)
        if (self.role == "tool") != (self.tool_call_id is not None):
            msg = "tool_call_id belongs to messages of the role 'tool', which need it"
            raise ValueError(msg)
        return self

    def chat_message(self) -> ChatMessage:
        """The contract's."""
        return ChatMessage(
            role=self.role,
            content=self.content or self.refusal or "",
            name=self.name,
            tool_calls=tuple(call.call() for call in self.tool_calls or ()),
            tool_call_id=self.tool_call_id,
            reasoning=self.reasoning_content or self.reasoning or None,
        )
