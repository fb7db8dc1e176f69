"""The form of the protocol's errors. It has no streams."""

from typing import Any

import orjson

from services.gateway.http import errors
from services.gateway.http.dialect import Dialect
from shared.errors import LlmosError


def _error(error: LlmosError) -> dict[str, Any]:
    return {"error": errors.text(error)}


OPEN_INFERENCE = Dialect(
    error=_error, failure=lambda error: orjson.dumps(_error(error)), media_type=b"application/json"
)
"""`{"error": "..."}`."""
