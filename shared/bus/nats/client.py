"""nats-py's client, fixed where a cancelled caller would break all others, with a fast path for plain messages."""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.protocol.command import pub_cmd

UNSENT_BYTES = 64 * 1024
"""With more than this in the connection's buffer the server is too slow: a publisher waits."""


class Receiver(Protocol):
    """Receives a subscription's messages in the turn of the event loop that reads them."""

    def receive_now(self, subject: str, data: bytes) -> bool:
        """Receive a message without headers; False, without effect, if earlier messages are still to come."""
        ...

    def expect_later(self) -> None:
        """A message comes through nats-py's queue: those behind it wait for it."""
        ...


_MESSAGE = re.compile(rb"MSG (\S+) (\d+) (\d+)\r\n", re.IGNORECASE)
"""One without headers and without a reply: subject, subscription id, bytes of data, which follow."""


class FixedClient(Client):
    """A client whose read loop survives callers that no longer wait for a PONG.

    nats-py reads in one task, hands a message to another by a queue, and leaves what is published to a third. Two or
    three turns of the event loop at each end cost more than all that is done with a token's frame.
    """

    def __init__(self) -> None:
        super().__init__()
        self.receivers: dict[int, Receiver] = {}
        """By subscription id."""

    def publish_now(self, subject: str, payload: bytes) -> bool:
        """Write a message, after all that was published before; False if the connection can't take it now."""
        transport = self._transport
        if self._status != Client.CONNECTED or len(payload) > self._max_payload:
            return False
        if not isinstance(transport, TcpTransport) or transport._io_writer is None:  # noqa: SLF001
            return False
        writer = transport._io_writer.transport  # noqa: SLF001
        if writer.get_write_buffer_size() > UNSENT_BYTES:
            return False
        writer.writelines([*self._pending, pub_cmd(subject, "", payload)])
        self._pending, self._pending_data_size = [], 0
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        return True

    async def _process_connect_init(self) -> None:
        """Connected, for the first time or again: put `_feed` in front of the task that reads."""
        await super()._process_connect_init()
        transport = self._transport
        if isinstance(transport, TcpTransport) and (reader := transport._io_reader) is not None:  # noqa: SLF001
            reader.feed_data = partial(self._feed, reader, reader.feed_data)  # type: ignore[method-assign]

    def _feed(self, reader: asyncio.StreamReader, feed: Callable[[bytes], None], data: bytes) -> None:
        """Hand the complete messages at the beginning of `data` to their receivers; nats-py reads the rest.

        Only while its task waits with nothing in hand: then these come next.
        """
        if reader._waiter is not None and not self._ps.buf:  # type: ignore[attr-defined]  # noqa: SLF001
            data = self._hand_over(data)
        if data:
            feed(data)

    def _hand_over(self, data: bytes) -> bytes:
        """The rest of `data`, from the first message on that no receiver took."""
        at = 0
        while message := _MESSAGE.match(data, at):
            subject, number, size = message.groups()
            begin = message.end()
            end = begin + int(size)
            if len(data) < end + 2:
                break
            receiver = self.receivers.get(int(number))
            if receiver is None or not receiver.receive_now(subject.decode(), data[begin:end]):
                break
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += end - begin
            at = end + 2
        return data[at:] if at else data

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Hand a message that nats-py read to its receiver; without one, do as nats-py does."""
        receiver = self.receivers.get(sid)
        if receiver is not None:
            if not headers and receiver.receive_now(subject.decode(), data):
                self.stats["in_msgs"] += 1
                self.stats["in_bytes"] += len(data)
                return
            receiver.expect_later()
        await super()._process_msg(sid, subject, reply, data, headers)

    async def _process_pong(self) -> None:
        """Hand a PONG to the oldest PING.

        nats-py sets the result of the future that waits, also when a time-out or a cancellation has ended it. That
        raises `InvalidStateError` in the read loop, and every request on the connection is lost with it.
        """
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
