"""Parameters for the structure of generated text: OpenAI's `response_format`, and vLLM's own.

vLLM had `guided_json`, `guided_regex`, `guided_choice` and `guided_grammar` first; `structured_outputs` is newer.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.gateway.dialects.json_values import SchemaText
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput

MAX_CHOICE_TEXTS = 4096
"""Texts of which the answer is one."""
Choices = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(strict=False, min_length=1, max_length=MAX_CHOICE_TEXTS),
]


class JsonSchemaFormat(BaseModel):
    """OpenAI's wrapping of a schema."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    json_schema: SchemaText = Field(alias="schema")
    strict: bool | None = None
    """Whether a keyword that can't be enforced is an error."""


class ResponseFormat(BaseModel):
    """OpenAI's."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    json_mode_schema: SchemaText | None = Field(default=None, alias="schema")
    """JSON mode with a schema, as llama.cpp, Fireworks and Together take it."""

    @model_validator(mode="after")
    def _whole(self) -> "ResponseFormat":
        if self.json_mode_schema is not None and self.type != "json_object":
            msg = "schema goes with type 'json_object'; with 'json_schema' it is json_schema.schema"
            raise ValueError(msg)
        if (self.type == "json_schema") != (self.json_schema is not None):
            msg = "json_schema goes with type 'json_schema', which needs it"
            raise ValueError(msg)
        return self

    def grammars(self) -> Iterator[Grammar]:
        """At most one."""
        if self.json_schema is not None:
            param = "response_format.json_schema.schema"
            strict = bool(self.json_schema.strict)
            yield Grammar(kind="json_schema", value=self.json_schema.json_schema, strict=strict, param=param)
        elif self.json_mode_schema is not None and self.json_mode_schema != "{}":
            yield Grammar(
                kind="json_schema", value=self.json_mode_schema, strict=False, param="response_format.schema"
            )
        elif self.type == "json_object":
            yield Grammar(kind="json_object")


class StructuredOutputs(BaseModel):
    """vLLM's: one of them."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    json_: SchemaText | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    """In llguidance's Lark dialect."""

    def grammars(self) -> Iterator[Grammar]:
        """Those that are given."""
        given = {"json": self.json_, "regex": self.regex, "choice": self.choice, "grammar": self.grammar}
        yield from _grammars({f"structured_outputs.{name}": (name, value) for name, value in given.items()})
        if self.json_object:
            yield Grammar(kind="json_object", param="structured_outputs.json_object")


class StructuredRequest(BaseModel):
    """The fields of a request."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaText | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None

    def grammar(self) -> Grammar | None:
        """What generated text must match; raises `InvalidInput` if several fields say it."""
        given = [
            *(self.response_format.grammars() if self.response_format else ()),
            *(self.structured_outputs.grammars() if self.structured_outputs else ()),
            *_grammars(
                {
                    "guided_json": ("json", self.guided_json),
                    "guided_regex": ("regex", self.guided_regex),
                    "guided_choice": ("choice", self.guided_choice),
                    "guided_grammar": ("grammar", self.guided_grammar),
                }
            ),
        ]
        if len(given) > 1:
            first, second = given[0].param, given[1].param
            raise InvalidInput(f"{second} does not go with {first}: give one of them", param=second)
        return given[0] if given else None


def _grammars(given: dict[str, tuple[str, str | tuple[str, ...] | None]]) -> Iterator[Grammar]:
    for param, (name, value) in given.items():
        match name, value:
            case _, None:
                continue
            case "json", str():
                yield Grammar(kind="json_schema", value=value, param=param)
            case "regex", str():
                yield Grammar(kind="regex", value=value, param=param)
            case "grammar", str():
                yield Grammar(kind="lark", value=value, param=param)
            case _, tuple():
                yield Grammar(kind="choice", value=json.dumps(value, ensure_ascii=False), param=param)
