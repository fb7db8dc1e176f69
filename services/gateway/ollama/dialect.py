"""The form of Ollama's errors and streams: JSON, an object a line."""

from typing import Any

import orjson

from services.gateway.http import errors
from services.gateway.http.dialect import TEXT, Dialect, fields
from shared.errors import LlmosError


def line(content: dict[str, Any]) -> bytes:
    """One line of a stream."""
    return orjson.dumps(content) + b"\n"


def _error(error: LlmosError) -> dict[str, Any]:
    return {"error": errors.text(error)}


OLLAMA = Dialect(
    name="Ollama",
    schema=fields(error=TEXT),
    error=_error,
    failure=lambda error: line(_error(error)),
    media_type=b"application/x-ndjson",
    keep_alive=b"",
)
"""Ollama's. A line without content would be an answer's, so none is sent."""
