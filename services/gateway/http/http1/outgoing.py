"""What is sent to one client, and for how long the client may leave it unread."""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable

MIN_RATE = 240
"""Bytes per second, in each window of time: half of Apache's. A slower client holds a place for nothing."""


class Outgoing:
    """The bytes on their way to a client.

    A client that leaves its response unread would keep it in memory, with its connection and its generation. So while
    the transport holds more than it likes, and at the end, progress is checked once in each window.

    Args:
        transport: The connection's.
        loop: Its event loop.
        window: Seconds in which a client takes `MIN_RATE` bytes in each.
        give_up: Called once when it does not, with the bytes that are unsent.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        window: float,
        give_up: Callable[[int], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._window = window
        self._give_up = give_up
        self._written = 0
        self._taken = 0
        """Bytes that the client had taken when its window began."""
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    async def writable(self) -> None:
        """Return when the client has taken most of what was written, or has gone."""
        if not self._writable.is_set():
            await self._writable.wait()

    def pause(self) -> None:
        """The client does not keep up."""
        self._writable.clear()
        self.watch()

    def resume(self) -> None:
        """The client has caught up."""
        self._writable.set()

    def watch(self) -> None:
        """Give up unless the client takes what was written."""
        if self._timer is None and self.unsent:
            self._taken = self._written - self.unsent
            self._timer = self._loop.call_later(self._window, self._check)

    def stop(self) -> None:
        """The connection has ended."""
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def unsent(self) -> int:
        """Bytes that the client's side has not confirmed: those of the transport, and those of the kernel."""
        pending = self._transport.get_write_buffer_size()
        connected = self._transport.get_extra_info("socket")
        try:
            (queued,) = struct.unpack("i", fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4)))
        except (OSError, ValueError):  # closed at this moment
            return pending
        return pending + int(queued)

    def _check(self) -> None:
        self._timer = None
        unsent = self.unsent
        if unsent and self._written - unsent - self._taken < MIN_RATE * self._window:
            self._give_up(unsent)
        elif not self._writable.is_set() or self._transport.is_closing():
            self.watch()
