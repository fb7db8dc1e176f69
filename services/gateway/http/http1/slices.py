"""What came of a client and is not parsed yet: a slice in each turn of the event loop.

A read has up to 250 KB, and libuv makes 32 of them before other clients have their turn.
"""

import asyncio
from collections.abc import Callable

HEAD_SLICE = 16 << 10
"""Bytes between requests and in a head, where they may be many requests."""
BODY_SLICE = 64 << 10
"""Bytes in a body, where they cost less."""


class Slices:
    """Bytes in the order in which they came.

    Args:
        loop: The event loop.
        parse: Called in a turn of it that `later` asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, parse: Callable[[], None]) -> None:
        self._loop = loop
        self._parse = parse
        self._rest = b""
        self._turn: asyncio.Handle | None = None

    def __bool__(self) -> bool:
        return bool(self._rest)

    def add(self, data: bytes) -> None:
        """Bytes have come: parse now, unless a turn for those before them is on its way."""
        self._rest = self._rest + data if self._rest else data
        if self._turn is None:
            self._parse()

    def take(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        self._turn = None
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def later(self) -> None:
        """Parse what is left in the next turn."""
        if self._turn is None:
            self._turn = self._loop.call_soon(self._parse)

    def clear(self) -> None:
        """Forget what is left."""
        self._rest = b""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
