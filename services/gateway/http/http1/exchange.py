"""One request and its response, between a connection and the ASGI application."""

import asyncio
import http
import re
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

from services.gateway.http import errors
from services.gateway.http.dialect import error_body, send_error
from services.gateway.http.errors import as_llmos
from services.gateway.http.http1.outgoing import Outgoing
from services.gateway.http.http1.parser import Head
from shared.errors import LlmosError, Unavailable
from shared.panics import STOPS

_NO_LINE_BREAK = re.compile(rb"[^\x00\r\n]*")
_BODILESS = (204, 304)
_PHRASES = {int(status): status.phrase.encode() for status in http.HTTPStatus}


class Channel(Protocol):
    """What an exchange needs of its connection."""

    @property
    def date(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response."""

    @property
    def outgoing(self) -> Outgoing:
        """What is sent."""

    def body_taken(self) -> None:
        """The application has taken what had come of the body."""

    def finished(self) -> None:
        """The response is complete."""

    def break_off(self, *, reset: bool) -> None:
        """End the connection in the middle of a response; with `reset` where that would look like its end."""


class Exchange:
    """Reads and responds as ASGI has it.

    Args:
        channel: The connection.
        head: The request.
        scope: The application's; made by the connection.
    """

    def __init__(self, channel: Channel, head: Head, scope: Scope) -> None:
        self._channel = channel
        self._outgoing = channel.outgoing
        self._head = head
        self._scope = scope
        self._news = asyncio.Event()
        self._body = bytearray()
        self._failure: LlmosError | None = None
        self._end_delivered = False
        self._started = False
        self._held = b""
        self._chunked = False
        self._left: int | None = None
        """Bytes of the body that are still to be sent, where their number was announced."""
        self._silent = head.method == "HEAD"
        """Whether the response has no body."""
        self.awaits_continue = head.expects_continue
        self.keep_alive = head.keep_alive
        self.received = False
        """Whether the whole request was received."""
        self.complete = False
        """Whether the whole response was written."""
        self.gone = False
        """Whether the client left."""
        self.unread = 0
        """Bytes of the body that came after the response was complete."""

    @property
    def buffered(self) -> int:
        """Bytes of the body that the application has not taken."""
        return len(self._body)

    def add(self, part: bytes) -> None:
        """A part of the body has come."""
        if self.complete:
            self.unread += len(part)
        else:
            self._body += part
            self._news.set()

    def end(self) -> None:
        """The whole body has come."""
        self.received = True
        self._news.set()

    def fail(self, error: LlmosError) -> None:
        """No more of the body can be read: the application, if it still reads, is given the error."""
        self._failure = error
        self.keep_alive = False
        self._news.set()

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self._news.set()

    async def run(self, app: ASGIApp) -> None:
        """Have the application respond."""
        try:
            await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._started:
                error = Unavailable("the gateway is shutting down")
                await send_error(self.send, error, method=self._head.method)
            raise
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001  # the boundary: the application's own one failed
            failure = as_llmos(error, self._head.method, self._head.path)
            if not self._started:
                await send_error(self.send, failure, method=self._head.method)
        finally:
            if not self.complete and not self.gone:
                self._channel.break_off(reset=not self._chunked and self._left is None)

    async def receive(self) -> Message:
        """ASGI's `receive`; raises the error of a body that cannot be read."""
        if self.awaits_continue and not self._started:
            self.awaits_continue = False
            self._outgoing.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.gone or self.complete):
            if self._body or (self.received and not self._end_delivered):
                body, self._body = bytes(self._body), bytearray()
                self._end_delivered = self.received
                self._channel.body_taken()
                return {"type": "http.request", "body": body, "more_body": not self.received}
            if self._failure is not None and not self._end_delivered:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        await self._outgoing.writable()
        if self.gone:
            return
        if self.complete or self._started == (message["type"] == "http.response.start"):
            msg = f"{message['type']} is out of order"
            raise RuntimeError(msg)
        if self._started:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._started = True
            self._send_head(message["status"], list(message.get("headers", ())))

    def _send_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        named = dict(headers)
        asked_for = self.received or not self.awaits_continue
        if not asked_for or b"close" in named.get(b"connection", b"").lower():
            # The client was not asked for the body, so it is not known whether the next bytes belong to it.
            self.keep_alive = False
        self._silent = self._silent or status in _BODILESS
        if (length := named.get(b"content-length")) is not None:
            self._left = int(length)
        elif not self._silent:
            self._chunked = self._head.version == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
        added = [*self._channel.date]
        if not self.keep_alive and b"connection" not in named:
            added.append((b"connection", b"close"))
        if self._chunked:
            added.append((b"transfer-encoding", b"chunked"))
        head = _status_line(status) + b"".join(_line(name, value) for name, value in (*headers, *added)) + b"\r\n"
        if self._left is None and not self._silent:
            self._outgoing.write(head)  # a stream: its first event may take long
        else:
            self._held = head

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._left is not None and not self._silent:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                msg = "the response's body is not as long as its Content-Length"
                raise RuntimeError(msg)
        if self._silent:
            body = b""
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk if more else chunk + b"0\r\n\r\n"
        if self._held:
            body, self._held = self._held + body, b""
        if body:
            self._outgoing.write(body)
        if not more:
            self.complete = True
            self._body.clear()
            self._news.set()
            self._channel.finished()


def error_response(error: LlmosError, more: list[tuple[bytes, bytes]]) -> bytes:
    """The whole response to a client whose request is not read; `more` are headers of every response."""
    content = error_body(error)
    fields = [errors.JSON, (b"content-length", b"%d" % len(content)), *errors.headers(error), *more]
    lines = b"".join(_line(name, value) for name, value in (*fields, (b"connection", b"close")))
    return _status_line(errors.status(error)) + lines + b"\r\n" + content


def _line(name: bytes, value: bytes) -> bytes:
    line = b"%b: %b" % (name, value)
    if not _NO_LINE_BREAK.fullmatch(line):
        msg = f"a header of the response has a line break: {name!r}"
        raise RuntimeError(msg)
    return line + b"\r\n"


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b""))
