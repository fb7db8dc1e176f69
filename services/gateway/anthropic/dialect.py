"""The form of Anthropic's errors and streams."""

from collections.abc import Mapping
from typing import Any

from services.gateway.http import errors
from services.gateway.http.dialect import TEXT, TEXT_OR_NULL, Dialect, fields, json_event
from shared.errors import ContextLengthExceeded, LlmosError

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; other errors of a client are `invalid_request_error`, and of the server `api_error`."""


def _error(error: LlmosError) -> dict[str, Any]:
    """`{"type": "error", "error": {"type", "message", "details"}}`; `error_code` is the code of `shared.errors`.

    Claude Code shortens a conversation when it reads "prompt is too long".
    """
    status = errors.status(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = errors.text(error)
    if isinstance(error, ContextLengthExceeded):
        message = f"prompt is too long: {message}"
    details = {"error_code": error.code, "param": error.param}
    return {"type": "error", "error": {"type": kind, "message": message, "details": details}}


ANTHROPIC = Dialect(
    name="Anthropic",
    schema=fields(
        type={"const": "error"},
        error=fields(type=TEXT, message=TEXT, details=fields(error_code=TEXT, param=TEXT_OR_NULL)),
    ),
    error=_error,
    failure=lambda error: json_event(_error(error), "error"),
    keep_alive=json_event({"type": "ping"}, "ping"),
    request_id=b"request-id",
)
"""Anthropic's."""
