"""Streams on raw ASGI: server-sent events, or what else a dialect has.

A failure before the first byte is an ordinary HTTP error; after it, the stream ends with the dialect's own piece for
one. A complete stream ends with the dialect's last piece (`data: [DONE]`, where it is OpenAI's). A client that leaves
cancels the source of the pieces.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from starlette.types import Receive, Scope, Send

from services.gateway.http import errors
from services.gateway.http.body import unless_gone
from services.gateway.http.dialect import OPENAI, Dialect
from services.gateway.http.middleware import state_of
from shared.deadlines import STREAM_COMMENT_S
from shared.errors import Unavailable
from shared.panics import STOPS

_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]

Source = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens the stream's source: entering it raises what should be an HTTP error, leaving it frees all resources."""


class Stream:
    """An ASGI response whose pieces are sent as its source yields them.

    Args:
        source: Of the pieces, as they are sent.
        dialect: How the stream ends.
        keep_alive: Seconds between pieces without content.
    """

    def __init__(self, source: Source, dialect: Dialect = OPENAI, keep_alive: float = STREAM_COMMENT_S) -> None:
        self._source = source
        self._dialect = dialect
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the source ends or the client leaves."""
        await unless_gone(receive, self._write(scope, send))

    async def _write(self, scope: Scope, send: Send) -> None:
        dialect = self._dialect
        async with self._source() as pieces:
            headers = [(b"content-type", dialect.media_type), *_HEADERS]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            keeping = asyncio.ensure_future(self._keep_open(send))
            try:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                last = dialect.end
            except asyncio.CancelledError:
                # The gateway stops and cannot wait any longer, or the client has left: then this is not sent.
                await _end(send, dialect.failure(Unavailable("the gateway is shutting down")))
                raise
            except STOPS:
                raise
            except BaseException as error:  # noqa: BLE001  # the boundary: sent to the client, unknown ones are logged
                failure = errors.as_llmos(error, scope["method"], scope["path"])
                state_of(scope).failure = failure
                last = dialect.failure(failure)
            finally:
                keeping.cancel()
        await _end(send, last)

    async def _keep_open(self, send: Send) -> None:
        while self._dialect.keep_alive:
            await asyncio.sleep(self._keep_alive)
            await send({"type": "http.response.body", "body": self._dialect.keep_alive, "more_body": True})


async def _end(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": False})
