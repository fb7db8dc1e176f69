"""How an API dialect writes what is not its own answer: an error, and the frame of a stream.

Every operation has a dialect. What goes wrong before the first byte of a response is an error in its form, with the
status that `services.gateway.http.errors` maps; what goes wrong after it is the last piece of the stream.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Send

from services.gateway.http import errors
from shared.errors import LlmosError


def json_event(content: Mapping[str, Any], name: str = "") -> bytes:
    """One server-sent event whose data is an object, with or without a name."""
    data = orjson.dumps(content)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else b"data: %b\n\n" % data


TEXT: Mapping[str, Any] = {"type": "string"}
TEXT_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"]}


def fields(**properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of an object that has these."""
    return {"type": "object", "required": list(properties), "properties": properties}


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of errors and streams. The pieces of a stream are made by its source."""

    name: str
    """Of the schema of its errors in the OpenAPI document."""
    schema: Mapping[str, Any]
    """Of the body of an error's response."""
    error: Callable[[LlmosError], Mapping[str, Any]]
    """The body of an error's response, as JSON. Its text is that of `errors.text`."""
    failure: Callable[[LlmosError], bytes]
    """The last piece of a stream that failed."""
    media_type: bytes = b"text/event-stream; charset=utf-8"
    """Of streams."""
    end: bytes = b""
    """The last piece of a complete stream."""
    keep_alive: bytes = b": keep-alive\n\n"
    """A piece without content, sent while nothing else is; empty: nothing is sent."""
    request_id: bytes | None = None
    """The header that its clients read a request's id from, besides `x-request-id`."""


def _openai_error(error: LlmosError) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`; `code` is the stable one of `shared.errors`."""
    kind = errors.openai_type(error)
    return {"error": {"message": errors.text(error), "type": kind, "param": error.param, "code": error.code}}


OPENAI = Dialect(
    name="OpenAI",
    schema=fields(error=fields(message=TEXT, type=TEXT, param=TEXT_OR_NULL, code=TEXT)),
    error=_openai_error,
    failure=lambda error: json_event(_openai_error(error), "error"),
    end=b"data: [DONE]\n\n",
)
"""OpenAI's, which LLMOS's own routes have too."""


def error_body(error: LlmosError, dialect: Dialect = OPENAI) -> bytes:
    """The body of an error's response."""
    return orjson.dumps(dialect.error(error))


async def send_error(send: Send, error: LlmosError, *, method: str, dialect: Dialect = OPENAI) -> None:
    """Respond with an error; a HEAD request gets no body."""
    content = error_body(error, dialect)
    headers = [errors.JSON, (b"content-length", str(len(content)).encode()), *errors.headers(error)]
    await send({"type": "http.response.start", "status": errors.status(error), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else content})
