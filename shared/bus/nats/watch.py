"""Watching a bucket across lost connections and restarted servers.

nats-py's own watcher rests on an ordered push consumer that does not survive a restart of the server. Here every run
makes an ephemeral consumer of its own, checks that its messages have no gap and that the server still sends
heartbeats, and begins again from the start when either fails or the connection was lost. Each run sends the
whole bucket and then `SYNCED`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header
from nats.js.kv import KV_MARKER_REASON, KV_OP

from shared.bus.merge import WatchMerge
from shared.bus.nats.jetstream import JetStream
from shared.bus.port import KvEvent, KvOperation
from shared.bus.tasks import end
from shared.deadlines import WATCH_HEARTBEAT_S, WATCH_SILENCE_S
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.bus")

RETRY_S = 0.5


class NatsWatch:
    """One watch: an iterator of events while it is `running`."""

    def __init__(
        self, jetstream: JetStream, stream: str, prefix: str, ensure: Callable[[bool], Awaitable[None]]
    ) -> None:
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._stream = stream
        self._prefix = prefix
        self._ensure = ensure
        self._merge = WatchMerge()
        self._arrived = asyncio.Event()
        self._message_at = 0.0
        self._left = False
        self._over = asyncio.Event()

    @property
    def fresh(self) -> bool:
        """Whether the bucket is seen as it is now."""
        lately = asyncio.get_running_loop().time() - self._message_at < WATCH_SILENCE_S
        return lately and self._merge.complete and self._connection.connected

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Receive the bucket's events while inside."""
        self._connection.on_lost.add(self._end_run)
        following = asyncio.create_task(self._follow(), name=f"watch {self._stream}")
        try:
            yield self
        finally:
            self._connection.on_lost.discard(self._end_run)
            self._left = True
            self._end_run()
            await end(following)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KvEvent:
        while (event := self._merge.read()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return event

    def _end_run(self) -> None:
        """The run is over, from this moment on."""
        if not self._over.is_set():
            self._merge.end_run()
            self._over.set()

    def _note_message(self) -> None:
        self._message_at = asyncio.get_running_loop().time()

    async def _follow(self) -> None:
        while True:
            await self._connection.up()
            self._over.clear()
            try:
                await self._run()
            except (Error, LlmosError, TimeoutError) as error:
                _log.warning("bus.watch_interrupted", stream=self._stream, error=str(error), retrying=True)
                await asyncio.sleep(RETRY_S)
            self._end_run()
            if self._left:
                return

    async def _run(self) -> None:
        """One run; returns when it is over."""
        number = self._merge.run

        def emit(event: KvEvent) -> None:
            self._merge.add(number, event)
            self._arrived.set()

        run = _Run(self._prefix, emit, end=self._end_run, on_message=self._note_message)
        client = self._connection.client
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=run.receive)
        consumer = ""
        try:
            info = await self._jetstream.call(
                lambda: self._jetstream.manager.add_consumer(
                    self._stream,
                    ConsumerConfig(
                        deliver_subject=inbox,
                        filter_subject=f"{self._prefix}>",
                        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                        ack_policy=AckPolicy.NONE,
                        idle_heartbeat=WATCH_HEARTBEAT_S,
                        inactive_threshold=30.0,
                        mem_storage=True,
                        num_replicas=1,
                    ),
                ),
                ensure=self._ensure,
            )
            consumer = info.name
            self._note_message()
            if not info.num_pending and not (info.delivered and info.delivered.consumer_seq):
                run.synced()
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SILENCE_S):
                        await self._over.wait()
                if asyncio.get_running_loop().time() - self._message_at > WATCH_SILENCE_S:
                    _log.warning("bus.watch_silent", stream=self._stream, seconds=WATCH_SILENCE_S, retrying=True)
                    break
        finally:
            await self._forget(subscription, consumer)

    async def _forget(self, subscription: Subscription, consumer: str) -> None:
        if not self._connection.connected:
            with contextlib.suppress(Error):
                await subscription.unsubscribe()
            return
        with contextlib.suppress(Error, TimeoutError):
            await subscription.unsubscribe()
            if consumer:
                await self._jetstream.manager.delete_consumer(self._stream, consumer)


class _Run:
    """What one consumer delivers, in order and without gaps, as events."""

    def __init__(
        self, prefix: str, emit: Callable[[KvEvent], None], end: Callable[[], None], on_message: Callable[[], None]
    ) -> None:
        self._prefix = prefix
        self._emit = emit
        self._end = end
        self._on_message = on_message
        self._sequence = 0
        self._synced = False

    def synced(self) -> None:
        """Emit `SYNCED`, once."""
        if not self._synced:
            self._synced = True
            self._emit(KvEvent(KvOperation.SYNCED))

    async def receive(self, message: Msg) -> None:
        """A message of the consumer: an entry, or a heartbeat."""
        self._on_message()
        headers = message.headers or {}
        if Header.STATUS in headers:
            self._heartbeat(headers)
            return
        metadata = message.metadata
        if metadata.sequence.consumer != self._sequence + 1:
            self._end()
            return
        self._sequence += 1
        key = message.subject.removeprefix(self._prefix)
        if KV_OP in headers or KV_MARKER_REASON in headers:
            if self._synced:
                self._emit(KvEvent(KvOperation.DELETE, key, revision=metadata.sequence.stream))
        else:
            self._emit(KvEvent(KvOperation.PUT, key, message.data, metadata.sequence.stream))
        if metadata.num_pending == 0:
            self.synced()

    def _heartbeat(self, headers: dict[str, str]) -> None:
        """The server is idle: all that it has sent must be here."""
        last = headers.get(Header.LAST_CONSUMER)
        if last is None:
            return
        if int(last) != self._sequence:
            self._end()
            return
        self.synced()
