"""A client of raw bytes, for what no client library would send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class RawResponse:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes
    """All of its bytes."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error body; all responses of the gateway have it, with their ids."""
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["x-request-id"]
        assert len(self.headers["x-trace-id"]) == 32
        return error


class RawClient:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def head(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and bytes of the next head."""
        lines = [self._file.readline()]
        while lines[-1] not in (b"\r\n", b""):
            lines.append(self._file.readline())
        assert lines[-1], f"closed in a head: {lines}"
        named = (line.decode().rstrip("\r\n").partition(": ") for line in lines[1:-1])
        return int(lines[0].split()[1]), {name.lower(): value for name, _, value in named}, b"".join(lines)

    def response(self, method: str = "GET") -> RawResponse:
        """The next response, framed as HTTP has it."""
        status, headers, raw = self.head()
        if method == "HEAD" or status in (204, 304):
            return RawResponse(status, headers, b"", raw)
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            body = b"".join(self.chunks())
        elif "content-length" in headers:
            body = self._file.read(int(headers["content-length"]))
        else:
            assert headers["connection"] == "close"
            body = self._file.read()
        return RawResponse(status, headers, body, raw + body)

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a body, up to its last."""
        while size := int(self._file.readline(), 16):
            yield self._file.read(size)
            assert self._file.read(2) == b"\r\n"
        assert self._file.read(2) == b"\r\n"

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def read(self, size: int) -> bytes:
        """As many bytes of a body, or those that came before its end."""
        return self._file.read(size)

    def closed(self) -> bool:
        """Whether the server closes, without another byte, before the time-out."""
        try:
            return self._file.read(1) == b""
        except TimeoutError:
            return False


@contextmanager
def raw_client(url: str, timeout: float = 20.0) -> Iterator[RawClient]:
    """A connection to the server at `url`, while the block runs."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = RawClient(connection)
        try:
            yield client
        finally:
            client.close()
