"""Reads requests' bodies within a limit, and detects clients that leave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from services.gateway.http.errors import ClientGone, UnsupportedMediaType
from services.gateway.http.explanation import explain, is_no_json
from services.gateway.http.json_size import check_json_size
from services.gateway.http.middleware import state_of
from services.gateway.http.parameters import Parameters
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.client_json import without_lone_surrogates

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")
Parsed = TypeVar("Parsed")


class ToModel(Protocol):
    """A request to a model, by the name of its deployment."""

    @property
    def model(self) -> str | None:
        """None where the request need not say it."""


Asking = TypeVar("Asking", bound=ToModel)

INLINE_BYTES = 16 << 10
"""Larger bodies are parsed in a thread. One of this size takes a few milliseconds at most, whatever is in it."""


async def read_body(request: Request, limit: int, *, binary: bool = False) -> bytes:
    """The whole body, which is JSON, or with `binary` also bytes of another kind.

    Raises:
        UnsupportedMediaType: It is in an encoding such as gzip, or says that it is no JSON.
        PayloadTooLarge: It is larger than `limit` bytes; at once where its length is announced.
        ClientGone: The client left.
    """
    check_encoding(request)
    if not (binary and _kind(request) == "application/octet-stream"):
        _check_type(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
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
    given, kind = request.headers.get("content-type", ""), _kind(request)
    if kind not in ("", "application/json") and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(f"the body has the Content-Type {given!r:.80}; send 'application/json'")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def stream_body(request: Request) -> AsyncIterator[bytes]:
    """The body in chunks as they arrive; raises `ClientGone`."""
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise ClientGone from error


async def parse_request(request: Request, parse: Callable[[bytes], Asking], body: bytes) -> Asking:
    """`parsed`, for a request to a model: its trace and its metrics name the model from here on."""
    asking = await parsed(parse, body)
    state_of(request.scope).model = asking.model or ""
    return asking


async def parsed(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    """What `parse` makes of a body; raises what it raises, and `InvalidInput` for one that has too much in it.

    A large body is parsed in a thread, so that other requests go on meanwhile.
    """
    if len(body) <= INLINE_BYTES:
        return parse(body)
    return await asyncio.to_thread(_parse_large, parse, body)


def _parse_large(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    check_json_size(body)
    return parse(body)


def parse_body(model: type[Model], body: bytes, parameters: Parameters | None = None) -> Model:
    """The request in a JSON body; raises `InvalidInput` naming the field that is wrong, unknown or not supported.

    Half a surrogate pair, which JavaScript's strings may have where a text was cut, becomes U+FFFD.

    Args:
        model: Of the body.
        body: As it was sent.
        parameters: What the body may have besides the fields of a model that allows more.
    """
    if not body.strip():
        raise InvalidInput("the request has no body; a JSON object is expected")
    try:
        request = _parsed(model, body)
    except ValidationError as error:
        raise explain(error) from error
    if parameters is not None:
        parameters.check_all(request.model_extra)
    return request


def _parsed(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if not is_no_json(error) or (whole := without_lone_surrogates(body)) == body:
            raise
    return model.model_validate_json(whole)


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
