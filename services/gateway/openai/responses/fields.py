"""Errors of other parts of LLMOS, which name the fields of a chat, name those of a response."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import LlmosError

_FIELDS = (
    (re.compile(r"^messages\b.*"), "input"),
    (re.compile(r"^max_tokens$"), "max_output_tokens"),
    (re.compile(r"^(tools\.\d+)\.function\b"), r"\1"),
    (re.compile(r"^tool_choice\.(function|allowed_tools)\b"), "tool_choice"),
    (re.compile(r"^(tool_choice\.tools\.\d+)\.function\b"), r"\1"),
)
"""In a chat, and in a response."""


@contextmanager
def fields_of_a_response() -> Iterator[None]:
    """An error that is raised in the block names the field of a response."""
    try:
        yield
    except LlmosError as error:
        for field, instead in _FIELDS:
            error.param = error.param and field.sub(instead, error.param)
        raise
