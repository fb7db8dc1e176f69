"""Messages and their content blocks."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from services.gateway.dialects.bounds import MAX_PARTS
from services.gateway.dialects.json_values import JsonObject

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "thinking": ("thinking",),
    "redacted_thinking": (),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
}
"""Types of blocks, each with the fields that it cannot do without."""
_OF_ROLES: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}


def _known(kind: str) -> str:
    if kind not in _NEEDS:
        msg = f"a block of type {kind!r:.80} is not supported: models here read text and the results of client tools"
        raise ValueError(msg)
    return kind


def _block_list(content: object) -> object:
    """Text as a block of text."""
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    if not isinstance(content, list | tuple):
        msg = "expected a string or a list of content blocks"
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    return tuple(content)


class _Block(BaseModel):
    """What blocks of all types have."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    cache_control: Any = None
    """Accepted without effect: the prefix cache finds by content."""
    citations: Any = None
    """Accepted without effect: models here read no documents."""


class TextBlock(_Block):
    """A text: of the system prompt, or of a tool's result."""

    type: Annotated[str, AfterValidator(_known), WithJsonSchema({"const": "text"})]
    text: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> "TextBlock":
        if self.type != "text" or self.text is None:
            msg = f"expected a block of type 'text' with a text, not {self.type!r}"
            raise ValueError(msg)
        return self


_TextBlocks = Annotated[
    tuple[TextBlock, ...],
    BeforeValidator(_block_list, json_schema_input_type=str | list[TextBlock]),
    Field(max_length=MAX_PARTS),
]


def text_of(blocks: tuple[TextBlock, ...]) -> str:
    """The texts of blocks, a line each."""
    return "\n".join(block.text or "" for block in blocks)


class Block(_Block):
    """A block of a message."""

    type: Annotated[str, AfterValidator(_known), WithJsonSchema({"enum": list(_NEEDS)})]
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    """Of thoughts; accepted without effect: thoughts are taken from every server."""
    data: str | None = None
    """Of thoughts that only their maker can read; accepted without effect."""
    id: str | None = None
    """Of a call."""
    name: str | None = None
    input: JsonObject | None = None
    caller: Any = None
    """Accepted without effect, like `toolset_name`: other servers' calls have them."""
    toolset_name: Any = None
    parsed_output: Any = None
    """Accepted without effect: what Anthropic's packages add to a text that they have parsed."""
    tool_use_id: str | None = None
    """The call whose result it is."""
    content: _TextBlocks | None = None
    """Of a result."""
    is_error: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Block":
        missing = [name for name in _NEEDS[self.type] if getattr(self, name) is None]
        if missing:
            msg = f"a block of type {self.type!r} needs {missing[0]}"
            raise ValueError(msg)
        return self


class Message(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    role: Literal["user", "assistant", "system"]
    content: Annotated[
        tuple[Block, ...],
        BeforeValidator(_block_list, json_schema_input_type=str | list[Block]),
        Field(max_length=MAX_PARTS),
    ]

    @model_validator(mode="after")
    def _of_role(self) -> "Message":
        for index, block in enumerate(self.content):
            if block.type not in _OF_ROLES[self.role]:
                msg = f"content.{index} is of type {block.type!r}, which no message of role {self.role!r} has"
                raise ValueError(msg)
        return self


SystemPrompt = _TextBlocks
"""A text, or blocks of text."""
