"""JSON inside requests: objects of any content, and texts that are JSON themselves.

What is taken here can be written as JSON again, in UTF-8, and parsed by any library.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from shared.text.client_json import TooDeep, json_text, parse_json


def are_ids(items: "list[Any]") -> bool:
    """Whether a list has token ids, one or more, and nothing else. Without a step of Python for each of them."""
    return set(map(type, items)) == {int} and min(items) >= 0 and max(items) < 1 << 31


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    json_text(value)
    return value


def _schema_text(schema: object) -> object:
    """A schema as text: clients send an object, or its text."""
    if isinstance(schema, dict):
        return json_text(schema)
    return json_text(parse_json(schema)) if isinstance(schema, str) else schema


def _arguments(text: object) -> object:
    """Arguments of a call, which may be no JSON. Other servers write null for none."""
    if text is None:
        return ""
    if isinstance(text, str):
        try:
            parse_json(text)
        except TooDeep:
            raise
        except ValueError:
            return text
    return text


JsonObject = Annotated[dict[str, Any], AfterValidator(_checked)]
"""An object of any content."""
SchemaText = Annotated[str, BeforeValidator(_schema_text, json_schema_input_type=dict[str, Any] | str)]
"""A JSON schema as text, from an object or a text."""
ArgumentsText = Annotated[str, BeforeValidator(_arguments, json_schema_input_type=str | None)]
"""The arguments of a call in the history: any text, as OpenAI has it."""
