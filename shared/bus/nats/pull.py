"""Durable pull consumers of JetStream.

Each pull has an inbox of its own, so a lost connection ends it at once and no message waits in an inbox
without a reader.
"""

import asyncio
import contextlib
import json
import time
from functools import partial

import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, Header, StreamConfig
from nats.js.errors import ServiceUnavailableError

from shared.bus.nats.jetstream import JetStream
from shared.errors import Disconnected

_log = structlog.get_logger("llmos.bus")

ACK_WAIT_S = 30.0
"""A message not acknowledged for this long is delivered again."""
RETRY_S = 0.5


class PullConsumer:
    """A durable pull consumer of one stream."""

    def __init__(self, jetstream: JetStream, stream: StreamConfig, durable: str) -> None:
        assert stream.name is not None
        self.jetstream = jetstream
        self.stream = stream
        self._consumer = ConsumerConfig(durable_name=durable, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S)
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{durable}"
        self._ready = False

    async def ensure(self, lost: bool) -> None:
        """Make stream and consumer if they are not there."""
        if self._ready and not lost:
            return
        await self.jetstream.ensure_stream(self.stream, suits=lambda found: settled(found, self.stream))
        assert self.stream.name is not None
        await self.jetstream.manager.add_consumer(self.stream.name, self._consumer)
        self._ready = True

    async def pull(self, timeout: float) -> Msg | None:
        """The next message, or None after `timeout` seconds; raises as `JetStream.call`."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            message = await self.jetstream.call(partial(self._ask, left), ensure=self.ensure)
            status = (message.headers or {}).get(Header.STATUS)
            if status is None:
                return message
            if status != "408":
                # The consumer was deleted, or its server goes away: it is made again.
                _log.info("bus.pull_interrupted", stream=self.stream.name, status=status)
                self._ready = False
                await asyncio.sleep(min(RETRY_S, max(0.0, deadline - time.monotonic())))
        return None

    async def _ask(self, expires: float) -> Msg:
        """One pull: a message, or a status. A message that arrives after the wait has ended is given back at once."""
        connection = self.jetstream.connection
        client = connection.client
        arrived: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            if not arrived.done():
                arrived.set_result(message)
            elif Header.STATUS not in (message.headers or {}):
                await message.nak()

        def lost() -> None:
            if not arrived.done():
                arrived.set_exception(Disconnected("the bus connection was lost while waiting; try again"))

        inbox = client.new_inbox()
        body = json.dumps({"batch": 1, "expires": int(expires * 1e9)}).encode()
        subscription = await client.subscribe(inbox, cb=receive)
        connection.on_lost.add(lost)
        try:
            await client.publish(self._next, body, reply=inbox)
            async with asyncio.timeout(expires + 2.0):
                message = await asyncio.shield(arrived)
        except (asyncio.CancelledError, TimeoutError):
            if arrived.done() and not arrived.exception():
                await receive(arrived.result())
            arrived.cancel()
            raise
        finally:
            connection.on_lost.discard(lost)
            with contextlib.suppress(Error):
                await subscription.unsubscribe()
        if (message.headers or {}).get(Header.STATUS) == "503":
            raise ServiceUnavailableError(code=503, description=f"no response on {self._next}")
        return message


def settled(found: StreamConfig, desired: StreamConfig) -> bool:
    """Whether the stream as it is serves as well as the desired one."""
    return (
        sorted(found.subjects or []) == sorted(desired.subjects or [])
        and (found.max_bytes or -1) == (desired.max_bytes or -1)
        and abs((found.max_age or 0.0) - (desired.max_age or 0.0)) < 1e-3
    )
