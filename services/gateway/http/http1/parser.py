"""Requests in the bytes of one connection: llhttp, with what RFC 9112 leaves to the server.

    bytes -> Head, body bytes ..., END, Head, ...      a refusal, if any, is the last event

llhttp takes an offer to upgrade for the end of HTTP on the connection and leaves the body unread. A server may ignore
the offer (RFC 9110, 7.8), but must not take the body for the next request. So the body is read by a second parser,
which is given the same framing without the offer and then stays.

llhttp itself refuses: Content-Length together with Transfer-Encoding, or twice; folded header lines; line ends other
than CRLF; invalid chunk sizes; white space before a header's colon.
"""

from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

import httptools

from services.gateway.http.errors import HeadersTooLarge, UriTooLong, as_llmos
from shared.errors import InvalidInput, LlmosError

MAX_TARGET = 8192
"""Bytes of a path with its query: RFC 9110, 4.1 asks for 8000; nginx takes as many."""
MAX_LINE = 16 << 10
"""Bytes of one header."""
MAX_LINES = 100
"""Headers of a request, and trailers of a chunked body: Apache's bound."""
MAX_HEAD = 64 << 10
"""Bytes of a request's line and headers, and of the trailers of a chunked body."""
FREE_CHUNKS = 4096
MIN_CHUNK = 64
"""Bytes in each chunk behind the first `FREE_CHUNKS`, on average: each costs three calls."""
_FRAMING = (b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class Head:
    """A request's line and headers."""

    method: str
    path: str
    """Decoded."""
    raw_path: bytes
    query: bytes
    version: str
    """1.0 or 1.1."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    keep_alive: bool
    """Whether the client allows a further request on the connection."""
    expects_continue: bool
    """Whether the client sends the body after a `100 Continue` only."""


class End(Enum):
    """The end of a request's body, which may be empty."""

    END = "end"


END = End.END
Event = Head | bytes | End | LlmosError


class RequestParser:
    """Parses what one client sends. The methods `on_…` are called by llhttp."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._events: list[Event] = []
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._keep_alive = True
        self._size = 0
        """Bytes of the headers of this request, or of its trailers."""
        self._lines = 0
        """Their number."""
        self._chunks = 0
        self._body = 0
        """Bytes of the body of this request."""
        self._silent = 0
        """Bytes since the last callback: of a header or a chunk's extension that has not ended yet."""
        self._upgrade_ignored = False
        """The head that has just ended offers an upgrade, and its body is for the second parser."""
        self._repeating = False
        """The second parser is given the framing."""
        self._over = False
        self.in_head = False
        """Whether a part of a head was read, and not yet its end."""

    def feed(self, data: bytes) -> list[Event]:
        """The events in further bytes. After a refusal, or a request that closes the connection, there are none."""
        self._events = []
        self._silent += len(data)
        while data and not self._over:
            data = self._feed(data)
        if self._silent > MAX_LINE:
            self._refuse(_line_too_long())
        return self._events

    def stop(self) -> None:
        """Ignore all further bytes."""
        self._over = True

    def _feed(self, data: bytes) -> bytes:
        """Parse up to an offer to upgrade; returns what comes after it."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            self._ignore_upgrade()
            return rest
        except httptools.HttpParserCallbackError as error:
            self._refuse(as_llmos(error, "GET", "/"))
        except httptools.HttpParserError as error:
            self._refuse(InvalidInput(f"the request is not valid HTTP/1.1: {error}"))
        return b""

    def _ignore_upgrade(self) -> None:
        if not self._upgrade_ignored:  # CONNECT, or refused
            return
        self._upgrade_ignored = False
        self._repeating = True
        framing = b"".join(b"%b: %b\r\n" % header for header in self._headers if header[0] in _FRAMING)
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
        self._repeating = False

    def on_message_begin(self) -> None:
        """A request begins."""
        if not (self._repeating or self._over):
            self._target, self._headers = b"", []
            self._size = self._lines = self._chunks = self._body = 0
            self.in_head = True

    def on_url(self, part: bytes) -> None:
        """A part of the target."""
        self._silent = 0
        if not self._repeating:
            self._target += part
            if len(self._target) > MAX_TARGET:
                self._refuse(UriTooLong(f"the path and query of the request are longer than {MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: those are dropped, since they could not be checked before the body was read."""
        self._silent = 0
        if self._repeating:
            return
        size = len(name) + len(value)
        self._size += size
        self._lines += 1
        if size > MAX_LINE:
            self._refuse(_line_too_long())
        elif self._lines > MAX_LINES:
            self._refuse(HeadersTooLarge(f"the request has more than {MAX_LINES} headers"))
        elif self._size > MAX_HEAD:
            self._refuse(HeadersTooLarge(f"the headers of the request are larger than {MAX_HEAD >> 10} KiB"))
        elif self.in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The end of a head."""
        self._silent = 0
        if self._repeating or self._over:
            return
        self.in_head = False
        self._size = self._lines = 0
        try:
            head = self._checked()
        except InvalidInput as error:
            self._refuse(error)
            return
        self._upgrade_ignored = self._parser.should_upgrade()
        self._keep_alive = head.keep_alive
        self._events.append(head)

    def on_chunk_header(self) -> None:
        """A chunk of the body begins."""
        self._silent = 0
        self._chunks += 1
        if self._chunks > FREE_CHUNKS and self._body < MIN_CHUNK * (self._chunks - FREE_CHUNKS):
            self._refuse(
                InvalidInput(
                    f"the body has {self._chunks} chunks for {self._body} bytes; send chunks of {MIN_CHUNK} bytes or"
                    " more"
                )
            )

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._silent = 0
        self._body += len(part)
        if not self._over:
            self._events.append(part)

    def on_message_complete(self) -> None:
        """The end of a request, unless the body is yet to be read by the second parser."""
        if self._over or self._upgrade_ignored:
            return
        self._events.append(END)
        self._over = not self._keep_alive

    def _checked(self) -> Head:
        """The head; raises `InvalidInput` where RFC 9112 has the server refuse it."""
        method, version = self._parser.get_method().decode("ascii"), self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise InvalidInput(f"HTTP/{version} is not spoken here; send HTTP/1.1")
        if method == "CONNECT":
            raise InvalidInput("this is no proxy: CONNECT is not taken")
        hosts = sum(name == b"host" for name, _ in self._headers)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise InvalidInput(f"a request has one Host header; this one has {hosts}")
        coding = next((value.lower() for name, value in self._headers if name == b"transfer-encoding"), None)
        if coding is not None and (version == "1.0" or coding != b"chunked"):
            raise InvalidInput("the only Transfer-Encoding that is taken is 'chunked', and with HTTP/1.1 only")
        raw_path, query = _split(self._target)
        expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers)
        return Head(
            method=method,
            path=unquote(raw_path.decode("latin-1")),
            raw_path=raw_path,
            query=query,
            version=version,
            headers=self._headers,
            keep_alive=version == "1.1" and self._parser.should_keep_alive(),
            expects_continue=expects and version == "1.1",
        )

    def _refuse(self, error: LlmosError) -> None:
        if not self._over:
            self._over = True
            self.in_head = False
            self._events.append(error)


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a target: `/path?query`, `http://host/path?query`, or `*`."""
    if not target.startswith((b"/", b"*")):
        try:
            parsed = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError as error:
            raise InvalidInput("the target of the request is neither a path nor a URL") from error
        return parsed.path or b"/", parsed.query or b""
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return path, query


def _line_too_long() -> HeadersTooLarge:
    return HeadersTooLarge(f"a line of the request's head is longer than {MAX_LINE >> 10} KiB")
