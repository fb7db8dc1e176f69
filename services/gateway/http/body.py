"""Reads requests' bodies within a limit, and detects clients that leave."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from services.gateway.http.errors import ClientGone, UnsupportedMediaType
from shared.errors import InvalidInput, PayloadTooLarge

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, which is JSON.

    Raises:
        UnsupportedMediaType: It is in an encoding such as gzip, or says that it is no JSON.
        PayloadTooLarge: It is larger than `limit` bytes; at once where its length is announced.
        ClientGone: The client left.
    """
    check_encoding(request)
    _check_type(request)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    received = bytearray()
    async for chunk in stream_body(request):
        received += chunk
        if len(received) > limit:
            raise _too_large(limit)
    return bytes(received)


def check_encoding(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a compressed body: a few bytes of it could unfold to any number."""
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(f"the body has the Content-Encoding {encoding!r:.80}; send it without one")


def _check_type(request: Request) -> None:
    """A body without a type is taken for JSON.

    The types of HTML forms are refused, and with them what a foreign page could send from a browser without asking.
    """
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind not in ("", "application/json") and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(f"the body has the Content-Type {given!r:.80}; send 'application/json'")


async def stream_body(request: Request) -> AsyncIterator[bytes]:
    """The body in chunks as they arrive; raises `ClientGone`."""
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise ClientGone from error


def parse_body(model: type[Model], body: bytes) -> Model:
    """The request in a JSON body; raises `InvalidInput` naming the first wrong field."""
    if not body.strip():
        raise InvalidInput("the request has no body; a JSON object is expected")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise explain(error) from error


def explain(error: ValidationError) -> InvalidInput:
    """The first mistake as an error that says what to change."""
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return InvalidInput(f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}")
    param = ".".join(str(part) for part in first["loc"])
    if not param:
        return InvalidInput(f"the body must be a JSON object: {message}")
    if first["type"] == "missing":
        return InvalidInput(f"{param} is required", param=param)
    given = first["input"]
    shown = f" (got {given!r:.80})" if isinstance(given, str | int | float | bool | None) else ""
    return InvalidInput(f"{param}: {message}{shown}", param=param)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves first: `ClientGone`."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait((working, leaving))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is larger than {limit / (1 << 20):g} MiB, the limit for this route")
