"""The items of requests: what people write, and what servers returned and clients send back.

`normalised` is an item as it is stored and returned, without an id unless the client gave one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.gateway.dialects.bounds import MAX_MESSAGES, MAX_PARTS
from services.gateway.dialects.json_values import ArgumentsText
from services.gateway.openai.text_parts import text_parts

MAX_ITEMS = MAX_MESSAGES
"""Of one request, and of one conversation."""
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""By the type of a part of a message: the key of its text."""
_TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def _parts(content: object) -> object:
    """Content as a list of parts, each with a text."""
    if isinstance(content, str):
        return ({"type": "input_text", "text": content},)
    parts = text_parts(content, _TEXTS, '{"type": "input_text", "text": "…"}')
    return tuple({"type": kind, "text": text} for kind, text in parts)


_PartsSchema = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["type", "text"],
                    "properties": {"type": {"enum": ["input_text", "output_text"]}, "text": {"type": "string"}},
                },
            },
        ]
    }
)
Parts = Annotated[tuple[dict[str, str], ...], BeforeValidator(_parts), _PartsSchema]


class _Item(BaseModel):
    """What all have. Fields that are not known are those of other servers, which clients send back: no effect."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    id: str | None = None

    def normalised(self) -> dict[str, Any]:
        """The item, complete as returned items are, but for its id."""
        raise NotImplementedError

    def _with_id(self, **fields: object) -> dict[str, Any]:
        return {**fields} if self.id is None else {"id": self.id, **fields}


class MessageItem(_Item):
    """A message of any role."""

    type: Literal["message"]
    role: Literal["user", "system", "developer", "assistant"]
    content: Parts

    def normalised(self) -> dict[str, Any]:
        """With parts of the type that belongs to the role."""
        assistant = self.role == "assistant"
        parts = [_output_part(part) if assistant else {**part, "type": "input_text"} for part in self.content]
        return self._with_id(type="message", status="completed", role=self.role, content=parts)


class FunctionCallItem(_Item):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=256)
    name: str = Field(min_length=1, max_length=256)
    arguments: ArgumentsText = ""

    def normalised(self) -> dict[str, Any]:
        """Itself."""
        fields = {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        return self._with_id(type="function_call", status="completed", **fields)


class FunctionCallOutputItem(_Item):
    """What a call returned."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=256)
    output: Parts

    def normalised(self) -> dict[str, Any]:
        """With its output as one text."""
        output = "\n".join(part["text"] for part in self.output)
        return self._with_id(type="function_call_output", status="completed", call_id=self.call_id, output=output)


class ReasoningText(BaseModel):
    """A part of thoughts, or of their summary."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    text: str


class ReasoningItem(_Item):
    """Thoughts before an answer, for templates that show them again. Encrypted ones have no effect."""

    type: Literal["reasoning"]
    summary: tuple[ReasoningText, ...] = Field(default=(), strict=False, max_length=MAX_PARTS)
    content: Annotated[tuple[ReasoningText, ...], Field(strict=False, max_length=MAX_PARTS)] | None = None

    def normalised(self) -> dict[str, Any]:
        """With its texts."""
        summary = [{"type": "summary_text", "text": part.text} for part in self.summary]
        content = [{"type": "reasoning_text", "text": part.text} for part in self.content or ()]
        return self._with_id(type="reasoning", status="completed", summary=summary, content=content)


class ItemReference(_Item):
    """An item that is stored already."""

    type: Literal["item_reference"]
    id: str = Field(min_length=1, max_length=256)

    def normalised(self) -> dict[str, Any]:
        """What is replaced by the item."""
        return {"type": "item_reference", "id": self.id}


def _typed(item: object) -> object:
    """An item with its type, which may be missing where it is clear."""
    if not isinstance(item, Mapping):
        msg = 'expected an object like {"type": "message", "role": "user", "content": "…"}'
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference" if set(item) <= {"id", "type"} else None
    if kind not in _TYPES:
        msg = f"an item of type {kind!r:.80} is not supported; supported are {', '.join(_TYPES)}"
        raise ValueError(msg)
    return {**item, "type": kind}


InputItem = Annotated[
    Annotated[
        MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem | ItemReference,
        Field(discriminator="type"),
    ],
    BeforeValidator(_typed),
]
"""One item of a request."""


def _items(given: object) -> object:
    return ({"type": "message", "role": "user", "content": given},) if isinstance(given, str) else given


InputItems = Annotated[
    tuple[InputItem, ...],
    Field(strict=False, max_length=MAX_ITEMS),
    BeforeValidator(_items, json_schema_input_type=Any),
]
"""A text, which is a message of the user's, or items."""


def _output_part(part: Mapping[str, str]) -> dict[str, Any]:
    if part["type"] == "refusal":
        return {"type": "refusal", "refusal": part["text"]}
    return {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}
