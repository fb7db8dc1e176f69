"""The one place that maps errors to HTTP: status, headers, and OpenAI's types. Bodies are a dialect's."""

import math
import secrets
from typing import ClassVar

import structlog

from shared import errors
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.gateway")

JSON = (b"content-type", b"application/json")
TOO_MANY = 429
CLIENT_GONE = 499
"""Logged and counted for a client that left; never sent."""

_STATUS: dict[type[LlmosError], tuple[int, str]] = {
    errors.InvalidInput: (400, "invalid_request_error"),
    errors.PayloadTooLarge: (413, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.Conflict: (409, "conflict_error"),
    errors.Overloaded: (TOO_MANY, "rate_limit_error"),
    errors.Draining: (503, "service_unavailable_error"),
    errors.Unavailable: (503, "service_unavailable_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
    errors.StorageFull: (507, "storage_error"),
    errors.Internal: (500, "server_error"),
}
_RETRY_AFTER_S = 1.0


class ClientGone(Exception):
    """The client closed its connection before it had its response."""


REFUSAL = "llmos.refusal"
"""The scope's key for the error of a request that could not be read: it is raised in the place of a response."""


class HttpError(errors.InvalidInput):
    """A request that is wrong as HTTP, with a status of its own."""

    status: ClassVar[int] = 400


class RequestTimeout(HttpError):
    """The client took too long to send its request."""

    code = "request_timeout"
    status = 408


class UriTooLong(HttpError):
    """The path and query are too long."""

    code = "uri_too_long"
    status = 414


class UnsupportedMediaType(HttpError):
    """A body of a type or in an encoding that is not taken."""

    code = "unsupported_media_type"
    status = 415


class HeadersTooLarge(HttpError):
    """The headers are too large."""

    code = "headers_too_large"
    status = 431


class MethodNotAllowed(HttpError):
    """The path exists, for other methods."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


def as_llmos(error: BaseException, method: str, path: str) -> LlmosError:
    """Any error as an `LlmosError`. An unknown one is logged under an id and becomes `Internal`."""
    if isinstance(error, LlmosError):
        return error
    error_id = secrets.token_hex(8)
    _log.error("request.failed", error_id=error_id, method=method, path=path, exc_info=error)
    return errors.Internal(f"something went wrong inside LLMOS; the log has it under {error_id}")


def status(error: LlmosError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, HttpError) else _mapped(error)[0]


def openai_type(error: LlmosError) -> str:
    """OpenAI's `type` of an error."""
    return _mapped(error)[1]


def text(error: LlmosError) -> str:
    """What a client is told, in every dialect. That of 429 names the seconds that `Retry-After` has."""
    return f"{error.message}; try again in {_retry_after(error)} s" if status(error) == TOO_MANY else error.message


def headers(error: LlmosError) -> list[tuple[bytes, bytes]]:
    """Headers of an error: when to retry, that a key is needed, which methods or bodies a path takes."""
    added = []
    if status(error) in (TOO_MANY, 503):
        added.append((b"retry-after", str(_retry_after(error)).encode()))
    if isinstance(error, errors.Unauthenticated):
        added.append((b"www-authenticate", b'Bearer realm="llmos"'))
    if isinstance(error, MethodNotAllowed):
        added.append((b"allow", error.allowed.encode()))
    if isinstance(error, UnsupportedMediaType):
        added += [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
    return added


def _retry_after(error: LlmosError) -> int:
    """Whole seconds after which the client may try again."""
    return max(1, math.ceil(_RETRY_AFTER_S if error.retry_after is None else error.retry_after))


def _mapped(error: LlmosError) -> tuple[int, str]:
    for kind in type(error).__mro__:
        if found := _STATUS.get(kind):
            return found
    return _STATUS[errors.Internal]
