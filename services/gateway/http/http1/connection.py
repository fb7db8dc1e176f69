"""One connection: requests one after another, the limits on the client's time, and the end.

uvicorn's server accepts connections and stops them; this class stands in the place of its own protocols.
"""

import asyncio
import socket
import struct
from collections import deque
from enum import Enum
from typing import cast

from uvicorn import Config
from uvicorn.server import ServerState

from services.gateway.http.errors import RequestTimeout
from services.gateway.http.http1.exchange import Exchange, error_response
from services.gateway.http.http1.outgoing import MIN_RATE, Outgoing
from services.gateway.http.http1.parser import END, Head, RequestParser
from services.gateway.http.http1.scope import NO_HEAD, scope_of
from services.gateway.http.http1.slices import BODY_SLICE, HEAD_SLICE, Slices
from services.gateway.limits.places import LINGERING, Places
from services.gateway.limits.time_limits import TimeLimits
from shared.errors import InvalidInput, LlmosError

HIGH_WATER = 64 << 10
"""Bytes of a body that wait for the application before reading pauses."""
MAX_PIPELINED = 64
"""Requests that wait on one connection for the response before theirs."""
MAX_UNREAD = 256 << 10
"""Bytes of a body after its response, which are dropped so that the connection can be used again: Go's bound."""


class _Phase(Enum):
    """What the connection waits for."""

    IDLE = "the first byte of a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    BUSY = "the application"
    LINGERING = "the client, which closes its side"


class Connection(asyncio.Protocol):
    """Serves one client. The arguments are uvicorn's, but for the last two."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],  # noqa: ARG002  # uvicorn's, of the lifespan
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: TimeLimits,
        places: Places,
    ) -> None:
        self._app = config.loaded_app
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._limits = limits
        self._places = places
        self._place: str | None = None
        self._parser = RequestParser()
        self._unparsed = Slices(self._loop, self._parse)
        self._transport: asyncio.Transport
        self.outgoing: Outgoing
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

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance
        self.outgoing = Outgoing(self._transport, self._loop, self._limits.send_window, self._give_up)
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own protocols
        peer = transport.get_extra_info("peername")
        try:
            self._place = self._places.take(peer[0] if peer else "")
        except LlmosError as error:
            self._turn_away(error)
            return
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """The connection has ended; the application learns of it by `http.disconnect`."""
        self._server.connections.discard(self)
        self._stop_parsing()
        self._set_timer(None)
        self.outgoing.stop()
        self._leave()
        for exchange in (self._current, self._incoming):
            if exchange is not None:
                exchange.leave()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._phase is _Phase.LINGERING:
            return
        self._unparsed.add(data)

    def pause_writing(self) -> None:
        """The client does not keep up with the response."""
        self.outgoing.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.outgoing.resume()

    def shutdown(self) -> None:
        """The server stops (uvicorn calls this): the response that is under way is the last."""
        self._stop_parsing()
        if self._current is None:
            self._end()
        else:
            self._current.keep_alive = False

    def close_idle(self) -> None:
        """Another client needs the place."""
        self._stop_parsing()
        self._end()

    # what an exchange needs

    @property
    def date(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response: uvicorn's server sets the date once a second."""
        return self._server.default_headers

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
        self._stop_parsing()
        if not reset:
            self._end()
            return
        connected = self._transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # requests

    def _parse(self) -> None:
        """Parse a slice; the rest follows when other connections had their turn."""
        size = HEAD_SLICE if self._incoming is None else BODY_SLICE
        for event in self._parser.feed(self._unparsed.take(size)):
            if isinstance(event, bytes):
                self._in_window += len(event)
                if self._incoming is not None:
                    self._incoming.add(event)
            elif isinstance(event, Head):
                if len(self._waiting) >= MAX_PIPELINED:
                    self._refuse(
                        InvalidInput(f"more than {MAX_PIPELINED} requests wait on one connection; read the responses")
                    )
                    break
                self._incoming = self._begin(event)
            elif event is END:
                self._end_of_body()
            elif isinstance(event, LlmosError):
                self._refuse(event)
        if self._incoming is not None and self._incoming.unread > MAX_UNREAD:
            self._close(linger=True)
        self._settle()

    def _stop_parsing(self) -> None:
        """Ignore all further bytes."""
        self._parser.stop()
        self._unparsed.clear()

    def _begin(self, head: Head, refusal: LlmosError | None = None) -> Exchange:
        exchange = Exchange(self, head, scope_of(head, self._transport, refusal))
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
        self._stop_parsing()
        if self._incoming is None:
            self._begin(NO_HEAD, error)
            return
        failed, self._incoming = self._incoming, None
        failed.fail(error)
        if failed.complete:
            self._close(linger=True)

    # time

    def _settle(self) -> None:
        """Read or pause, and wait for what is next with its time limit."""
        if self._transport.is_closing() or self._phase is _Phase.LINGERING:
            return
        held = bool(self._waiting) or (self._incoming is not None and self._incoming.buffered > HIGH_WATER)
        self._pause_reading(pause=held or bool(self._unparsed))
        if self._unparsed and not held:
            self._unparsed.later()
        if self._incoming is not None:
            phase, limit = _Phase.BODY, self._limits.body_window
        elif self._current is not None:
            phase, limit = _Phase.BUSY, None
        elif self._parser.in_head:
            phase, limit = _Phase.HEAD, self._limits.head
        else:
            phase, limit = _Phase.IDLE, self._limits.keep_alive
        if phase is not self._phase:
            if phase is _Phase.IDLE:
                self._places.idle(self)
            elif self._phase is _Phase.IDLE:
                self._places.busy(self)
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
            self._end()
        elif self._phase is _Phase.HEAD:
            self._refuse(RequestTimeout(f"the head of the request took longer than {self._limits.head:g} s"))
            self._settle()
        elif self._phase is _Phase.BODY:
            self._check_body()
        elif self._phase is _Phase.LINGERING:
            self._end()

    def _check_body(self) -> None:
        """Refuse a body that came too slowly, unless it was the server that did not read."""
        window = self._limits.body_window
        if self._incoming is not None and self._incoming.complete:
            self._close(linger=True)
            return
        waited_for = self._was_paused or (self._incoming is not None and self._incoming.awaits_continue)
        if waited_for or self._in_window >= MIN_RATE * window:
            self._in_window, self._was_paused = 0, self._paused
            self._set_timer(window)
            return
        self._refuse(
            RequestTimeout(
                f"the body comes too slowly: {self._in_window} bytes in {window:g} s; send the rest faster"
            )
        )
        self._settle()

    # the end

    def _close(self, *, linger: bool) -> None:
        """Close after what was written.

        A client that still sends would get a reset, and lose the response with it. So `linger` closes only the
        server's side, and what comes is dropped until the client closes too.
        """
        self._stop_parsing()
        if not linger:
            self._end()
            return
        self._pause_reading(pause=False)
        self._places.busy(self)
        self._phase = _Phase.LINGERING
        self._set_timer(self._limits.linger)
        self._transport.write_eof()

    def _end(self) -> None:
        """Close when the client has taken what was written, or takes no more of it."""
        self._set_timer(None)
        self._transport.close()
        self.outgoing.watch()

    def _give_up(self, unsent: int) -> None:
        """The client leaves its response unread."""
        self._places.dropped(unsent)
        self._transport.abort()

    def _turn_away(self, error: LlmosError) -> None:
        """There is no place for this connection. No request is made of it: it costs one write."""
        self.outgoing.write(error_response(error, self.date))
        if self._places.lingering < LINGERING:
            self._places.lingering += 1
            self._close(linger=True)
        else:
            self._transport.abort()

    def _leave(self) -> None:
        self._places.busy(self)
        if self._place is not None:
            self._places.leave(self._place)
        elif self._phase is _Phase.LINGERING:
            self._places.lingering -= 1
