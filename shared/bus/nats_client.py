"""nats-py's client, mended where a cancelled caller would break all others, with a short way for plain messages."""

import asyncio
from collections.abc import Callable

from nats.aio.client import Client
from nats.protocol.command import pub_cmd

UNSENT_BYTES = 64 * 1024
"""With more than this in the connection's buffer the server does not keep up: who publishes waits."""

TakeNow = Callable[[str, bytes, bool], bool]
"""Takes a message, given its subject, its data and whether it has headers. False: it is to go the long way."""


class PatientClient(Client):
    """A client whose read loop outlives those who no longer wait for a PONG.

    nats-py hands a message to a queue and a task, and leaves what is published to another task. That is two turns of
    the event loop at each end, which for a token's frame cost more than all that is done with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[int, TakeNow] = {}
        """By subscription id: who is offered messages in the turn that reads them."""

    def publish_now(self, subject: str, payload: bytes) -> bool:
        """Write a message, after all that was published before; False if the connection can't take it now."""
        if not self.is_connected or self.is_draining or len(payload) > self.max_payload:
            return False
        writer = self._transport
        if writer._io_writer.transport.get_write_buffer_size() > UNSENT_BYTES:  # type: ignore[union-attr] # noqa: SLF001
            return False
        writer.writelines([*self._pending, pub_cmd(subject, "", payload)])  # type: ignore[union-attr]
        self._pending, self._pending_data_size = [], 0
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        return True

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Offer a message to who takes it now; hand all others on as nats-py does."""
        take = self.takers.get(sid)
        if take is not None and take(subject.decode(), data, bool(headers)):
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += len(data)
        else:
            await super()._process_msg(sid, subject, reply, data, headers)

    async def _process_pong(self) -> None:
        """Hand a PONG to the oldest PING.

        nats-py sets the result of the future that waits, also when a time-out or a cancellation has ended it. That
        raises `InvalidStateError` in the read loop, and every request on the connection is lost with it.
        """
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
