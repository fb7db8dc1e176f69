"""The form of the protocol's errors. It has no streams."""

from typing import Any

import orjson

from services.gateway.http import errors
from services.gateway.http.dialect import TEXT, Dialect, fields
from shared.errors import LlmosError


def _error(error: LlmosError) -> dict[str, Any]:
    return {"error": errors.text(error)}


OPEN_INFERENCE = Dialect(
    name="OpenInference",
    schema=fields(error=TEXT),
    error=_error,
    failure=lambda error: orjson.dumps(_error(error)),
    media_type=b"application/json",
)
"""`{"error": "..."}`."""
