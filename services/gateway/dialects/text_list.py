"""Texts of one request: a string, or a list of strings."""

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

MAX_INPUTS = 2048
"""Texts of one request: OpenAI's limit."""
STRINGS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
"""The schema."""


def strings(given: object) -> object:
    """A string as a tuple of one, a list as a tuple; raises `ValueError`."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        msg = "expected a string, or a list of one or more strings"
        raise ValueError(msg)
    if len(texts) > MAX_INPUTS:
        msg = f"there are {len(texts)} texts; at most {MAX_INPUTS} go into one request"
        raise ValueError(msg)
    return tuple(texts)


Strings = Annotated[tuple[str, ...], BeforeValidator(strings), WithJsonSchema(STRINGS)]
"""A request's field."""
