"""One connection: requests one after another, the limits on the client's time, and the end.

uvicorn's server accepts connections and stops them; this class stands in the place of its own protocols.
"""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import cast

from starlette.types import Scope
from uvicorn import Config
from uvicorn.server import ServerState

from services.gateway.http.errors import REFUSAL, RequestTimeout
from services.gateway.http.http1.exchange import Exchange
from services.gateway.http.http1.parser import END, Head, RequestParser
from shared.deadlines import BODY_WINDOW_S, HEAD_S, KEEP_ALIVE_S, LINGER_S
from shared.errors import LlmosError

HIGH_WATER = 64 << 10
"""Bytes of a body that wait for the application before reading pauses."""
MIN_BODY_RATE = 240
"""Bytes per second of a body, in each window of time: half of Apache's. A slower client holds a place for nothing."""
_REFUSED = Head("GET", "/", b"/", b"", "1.1", [], keep_alive=False, expects_continue=False)
"""Stands for a request whose head could not be read."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long the server waits for a client, in seconds."""

    keep_alive: float = KEEP_ALIVE_S
    head: float = HEAD_S
    body_window: float = BODY_WINDOW_S
    linger: float = LINGER_S


class _Phase(Enum):
    """What the connection waits for."""

    IDLE = "the first byte of a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    BUSY = "the application"
    LINGERING = "the client, which closes its side"


class Connection(asyncio.Protocol):
    """Serves one client. The arguments are uvicorn's, but for the last."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],  # noqa: ARG002  # uvicorn's, of the lifespan
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: TimeLimits = TimeLimits(),
    ) -> None:
        self._app = config.loaded_app
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._limits = limits
        self._parser = RequestParser()
        self._transport: asyncio.Transport
        self._current: Exchange | None = None
        """The one that is responded to."""
        self._incoming: Exchange | None = None
        """The one whose body is being read; it may have its response already, or wait behind the current one."""
        self._waiting: deque[Exchange] = deque()
        """Pipelined requests, which are responded to in order."""
        self._phase = _Phase.BUSY
        self._timer: asyncio.TimerHandle | None = None
        self._in_window = 0
        self._paused = False
        self._was_paused = False
        self._writable = asyncio.Event()
        self._writable.set()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own protocols
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """The connection has ended; the application learns of it by `http.disconnect`."""
        self._server.connections.discard(self)
        self._parser.stop()
        self._set_timer(None)
        self._writable.set()
        for exchange in (self._current, self._incoming):
            if exchange is not None:
                exchange.leave()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._phase is _Phase.LINGERING:
            return
        for event in self._parser.feed(data):
            if isinstance(event, bytes):
                self._in_window += len(event)
                if self._incoming is not None:
                    self._incoming.add(event)
            elif isinstance(event, Head):
                self._incoming = self._begin(event)
            elif event is END:
                self._end_of_body()
            elif isinstance(event, LlmosError):
                self._refuse(event)
        self._settle()

    def pause_writing(self) -> None:
        """The client does not keep up with the response."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    def shutdown(self) -> None:
        """The server stops (uvicorn calls this): the response that is under way is the last."""
        self._parser.stop()
        if self._current is None:
            self._transport.close()
        else:
            self._current.keep_alive = False

    # what an exchange needs

    @property
    def date(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response: uvicorn's server sets the date once a second."""
        return self._server.default_headers

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def writable(self) -> None:
        """Return when the client has taken most of what was written."""
        if not self._writable.is_set():
            await self._writable.wait()

    def body_taken(self) -> None:
        """The application has taken what had come of the body."""
        if self._paused:
            self._settle()

    def finished(self) -> None:
        """The response is complete: go on with the next request, or close."""
        done, self._current = self._current, None
        self._server.total_requests += 1
        if done is None or self._transport.is_closing():
            return
        if not done.keep_alive:
            self._close(linger=not done.received)
        elif self._waiting:
            self._start(self._waiting.popleft())
        self._settle()

    def break_off(self, *, reset: bool) -> None:
        """End the connection in the middle of a response; with `reset` where that would look like its end."""
        self._parser.stop()
        if not reset:
            self._transport.close()
            return
        connected = self._transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # requests

    def _begin(self, head: Head, refusal: LlmosError | None = None) -> Exchange:
        exchange = Exchange(self, head, self._scope(head, refusal))
        if self._current is None:
            self._start(exchange)
        else:
            self._waiting.append(exchange)
        return exchange

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        task = self._loop.create_task(exchange.run(self._app))
        task.add_done_callback(self._server.tasks.discard)
        self._server.tasks.add(task)

    def _end_of_body(self) -> None:
        if self._incoming is not None:
            self._incoming.end()
            self._incoming = None

    def _refuse(self, error: LlmosError) -> None:
        """Respond with an error, as the application does with its own, and close."""
        self._parser.stop()
        if self._incoming is None:
            self._begin(_REFUSED, error)
            return
        failed, self._incoming = self._incoming, None
        failed.fail(error)
        if failed.complete:
            self._close(linger=True)

    def _scope(self, head: Head, refusal: LlmosError | None) -> Scope:
        server, client = self._transport.get_extra_info("sockname"), self._transport.get_extra_info("peername")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "server": tuple(server[:2]) if server else None,
            "client": tuple(client[:2]) if client else None,
            "scheme": "http",
            "method": head.method,
            "root_path": "",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": {},
        }
        if refusal is not None:
            scope[REFUSAL] = refusal
        return scope

    # time

    def _settle(self) -> None:
        """Read or pause, and wait for what is next with its time limit."""
        if self._transport.is_closing() or self._phase is _Phase.LINGERING:
            return
        full = self._incoming is not None and self._incoming.buffered > HIGH_WATER
        self._pause_reading(pause=full or bool(self._waiting))
        if self._incoming is not None:
            phase, limit = _Phase.BODY, self._limits.body_window
        elif self._current is not None:
            phase, limit = _Phase.BUSY, None
        elif self._parser.in_head:
            phase, limit = _Phase.HEAD, self._limits.head
        else:
            phase, limit = _Phase.IDLE, self._limits.keep_alive
        if phase is not self._phase:
            self._phase, self._in_window = phase, 0
            self._set_timer(limit)

    def _pause_reading(self, *, pause: bool) -> None:
        if pause == self._paused:
            return
        self._paused = pause
        if pause:
            self._was_paused = True
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        if self._phase is _Phase.IDLE:
            self._transport.close()
        elif self._phase is _Phase.HEAD:
            self._refuse(RequestTimeout(f"the head of the request took longer than {self._limits.head:g} s"))
            self._settle()
        elif self._phase is _Phase.BODY:
            self._check_body()
        elif self._phase is _Phase.LINGERING:
            self._transport.abort()

    def _check_body(self) -> None:
        """Refuse a body that came too slowly, unless it was the server that did not read."""
        window = self._limits.body_window
        waited_for = self._was_paused or (self._incoming is not None and self._incoming.awaits_continue)
        if waited_for or self._in_window >= MIN_BODY_RATE * window:
            self._in_window, self._was_paused = 0, self._paused
            self._set_timer(window)
            return
        self._refuse(
            RequestTimeout(
                f"the body comes too slowly: {self._in_window} bytes in {window:g} s; send the rest faster"
            )
        )
        self._settle()

    def _close(self, *, linger: bool) -> None:
        """Close after what was written.

        A client that still sends would get a reset, and lose the response with it. So `linger` closes only the
        server's side, and what comes is dropped until the client closes too.
        """
        self._parser.stop()
        if not linger:
            self._transport.close()
            return
        self._pause_reading(pause=False)
        self._phase = _Phase.LINGERING
        self._set_timer(self._limits.linger)
        self._transport.write_eof()
