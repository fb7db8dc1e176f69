"""How `/v1/responses` and `/v1/conversations` write errors and streams."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.gateway.http.dialect import OPENAI, Dialect
from shared.errors import LlmosError

_PARAMS = (
    (re.compile(r"^messages\b.*"), "input"),
    (re.compile(r"^max_tokens$"), "max_output_tokens"),
    (re.compile(r"^(tools\.\d+)\.function\b"), r"\1"),
    (re.compile(r"^tool_choice\.function\b"), "tool_choice"),
    (re.compile(r"^tool_choice\.allowed_tools\b"), "tool_choice"),
    (re.compile(r"^(tool_choice\.tools\.\d+)\.function\b"), r"\1"),
)
"""Fields of a chat, which other parts of LLMOS name in errors, as a response has them."""


def param_of(error: LlmosError) -> str | None:
    """The field of a response's request that an error is about."""
    param = error.param
    for pattern, instead in _PARAMS if param is not None else ():
        param = pattern.sub(instead, param or "")
    return param


def _error(error: LlmosError) -> dict[str, Any]:
    body = dict(OPENAI.error(error))
    return {"error": {**body["error"], "param": param_of(error)}}


RESPONSES = replace(OPENAI, error=_error)
"""OpenAI's, with the fields of responses in errors. Streams have one of their own each (`streaming`)."""


def streaming(failure: Callable[[LlmosError], bytes]) -> Dialect:
    """The dialect of one stream, whose failure has its next sequence numbers."""
    return replace(RESPONSES, failure=failure)
