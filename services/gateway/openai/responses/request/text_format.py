"""`text`: the structure and the length of the answer's text."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.gateway.dialects.json_values import SchemaText
from shared.contracts.replica import Grammar
from shared.text.client_json import parse_json

_PARAM = "text.format"


class TextFormat(BaseModel):
    """What chats have as `response_format`, flat."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, min_length=1, max_length=256)
    description: str | None = None
    json_schema: SchemaText | None = Field(default=None, alias="schema")
    strict: bool | None = None
    """Whether a keyword that can't be enforced is an error."""

    @model_validator(mode="after")
    def _whole(self) -> "TextFormat":
        given = self.json_schema is not None and self.name is not None
        if self.type == "json_schema" and not given:
            msg = "the type 'json_schema' needs a name and a schema"
            raise ValueError(msg)
        if self.type != "json_schema" and self.json_schema is not None:
            msg = "schema goes with the type 'json_schema'"
            raise ValueError(msg)
        return self

    def grammar(self) -> Grammar | None:
        """What the answer must match."""
        if self.json_schema is not None:
            strict = bool(self.strict)
            return Grammar(kind="json_schema", value=self.json_schema, strict=strict, param=f"{_PARAM}.schema")
        return Grammar(kind="json_object", param=_PARAM) if self.type == "json_object" else None

    def shown(self) -> dict[str, Any]:
        """As the response repeats it."""
        if self.json_schema is None:
            return {"type": self.type}
        schema = parse_json(self.json_schema)
        fields = {"name": self.name, "description": self.description, "schema": schema, "strict": bool(self.strict)}
        return {"type": self.type, **fields}


class TextConfig(BaseModel):
    """The field of a request."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def shown(self) -> dict[str, Any]:
        """As the response repeats it."""
        shown = {"format": {"type": "text"} if self.format is None else self.format.shown()}
        return shown if self.verbosity is None else {**shown, "verbosity": self.verbosity}
