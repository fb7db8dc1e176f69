"""A connection on which requests are sent one after another: it looks at nothing while time runs."""

import asyncio
import time


class Connection:
    """HTTP/1.1, kept open.

    Args:
        port: On loopback.
        key: The API key.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[float, bytes]:
        """(seconds to the last byte, the body of the answer); raises `SystemExit` for any status but 200."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        reader, writer = self._streams
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = time.perf_counter()
        writer.write(head.encode() + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in answered.lower():
            content = await reader.readuntil(b"\r\n0\r\n\r\n")
            seconds = time.perf_counter() - began
            content = _joined(content)
        else:
            size = int(answered.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            content = await reader.readexactly(size)
            seconds = time.perf_counter() - began
        if not answered.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {content[:300]!r}")
        return seconds, content

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()


def _joined(chunks: bytes) -> bytes:
    """The content of chunks."""
    content, at = [], 0
    while size := int(chunks[at : (end := chunks.index(b"\r\n", at))], 16):
        content.append(chunks[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(content)
