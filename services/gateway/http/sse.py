"""Server-sent events on raw ASGI.

A failure before the first byte is an ordinary HTTP error; after it, the stream ends with an `error` event. A complete
stream ends with `data: [DONE]`. A client that leaves cancels the source of the events.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from starlette.types import Receive, Scope, Send

from services.gateway.http import errors
from services.gateway.http.body import unless_gone
from services.gateway.http.middleware import state_of
from shared.deadlines import STREAM_COMMENT_S
from shared.errors import LlmosError, Unavailable
from shared.panics import STOPS

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"

Source = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens the events' source: entering it raises what should be an HTTP error, leaving it frees all resources.
The events are JSON without line breaks."""


class EventStream:
    """An ASGI response that streams events."""

    def __init__(self, source: Source, keep_alive: float = STREAM_COMMENT_S) -> None:
        self._source = source
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the events end or the client leaves."""
        await unless_gone(receive, self._write(scope, send))

    async def _write(self, scope: Scope, send: Send) -> None:
        async with self._source() as events:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            keeping = asyncio.ensure_future(self._keep_open(send))
            try:
                async for event in events:
                    await send({"type": "http.response.body", "body": b"data: " + event + b"\n\n", "more_body": True})
                last = _DONE
            except asyncio.CancelledError:
                # The gateway stops and cannot wait any longer, or the client has left: then this is not sent.
                await _end(send, _error_event(Unavailable("the gateway is shutting down")))
                raise
            except STOPS:
                raise
            except BaseException as error:  # noqa: BLE001  # the boundary: sent to the client, unknown ones are logged
                failure = errors.as_llmos(error, scope["method"], scope["path"])
                state_of(scope).failure = failure
                last = _error_event(failure)
            finally:
                keeping.cancel()
        await _end(send, last)

    async def _keep_open(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._keep_alive)
            await send({"type": "http.response.body", "body": _COMMENT, "more_body": True})


def _error_event(error: LlmosError) -> bytes:
    return b"event: error\ndata: " + errors.body(error) + b"\n\n"


async def _end(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": False})
