"""Watching a bucket across lost connections and restarted servers.

The server publishes each change once it is stored (`LIVE_SUBJECT`). Every run subscribes to the changes, reads the
whole bucket, and goes on with the changes behind it: no consumer is needed. It checks that the changes have no gap
and that the server still answers, and the next run begins from the start when either fails or the connection was
lost. Each run sends the whole bucket and then `SYNCED`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from nats.js.kv import KV_MARKER_REASON, KV_OP

from shared.bus.merge import WatchMerge
from shared.bus.nats.jetstream import JetStream
from shared.bus.nats.stored import SUBJECT_HEADER, StoredMessages, sequence
from shared.bus.port import KvEvent, KvOperation
from shared.bus.tasks import end
from shared.deadlines import WATCH_HEARTBEAT_S, WATCH_SILENCE_S
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.bus")

RETRY_S = 0.5


class NatsWatch:
    """One watch: an iterator of events while it is `running`."""

    def __init__(
        self,
        jetstream: JetStream,
        stream: str,
        prefix: str,
        live: str,
        ensure: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._stream = stream
        self._prefix = prefix
        self._live = live
        self._ensure = ensure
        self._merge = WatchMerge()
        self._arrived = asyncio.Event()
        self._message_at = 0.0
        self._left = False
        self._over = asyncio.Event()

    @property
    def fresh(self) -> bool:
        """Whether the bucket is seen as it is now."""
        return self._heard_lately and self._merge.complete and self._connection.connected

    @property
    def _heard_lately(self) -> bool:
        return asyncio.get_running_loop().time() - self._message_at < WATCH_SILENCE_S

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
        subscription = await client.subscribe(self._live, cb=run.receive)
        try:
            for _ in range(2):  # see `NatsSubscription.activate`
                await client.flush(timeout=2)
            async for message in StoredMessages(self._jetstream, self._stream, f"{self._prefix}>", self._ensure):
                run.read(message)
            run.synced()
            self._note_message()
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_HEARTBEAT_S):
                        await self._over.wait()
                if not self._over.is_set() and not await self._answers(run):
                    _log.warning("bus.watch_silent", stream=self._stream, seconds=WATCH_SILENCE_S, retrying=True)
                    break
        finally:
            with contextlib.suppress(Error, TimeoutError):
                await subscription.unsubscribe()

    async def _answers(self, run: "_Run") -> bool:
        """Whether the server was heard within `WATCH_SILENCE_S`; ends the run if it has stored what did not come."""
        try:
            async with asyncio.timeout_at(self._message_at + WATCH_SILENCE_S):
                newest = await self._jetstream.call(self._newest)
        except TimeoutError:
            return self._heard_lately
        self._note_message()
        run.compare(0 if newest is None else newest.seq or 0)
        return True

    async def _newest(self) -> RawStreamMsg | None:
        """What was stored last, of what is still there."""
        try:
            return await self._jetstream.manager.get_msg(self._stream, subject=f"{self._prefix}>", direct=True)
        except NotFoundError:
            return None


class _Run:
    """What the server holds, and then its changes, in order and without gaps, as events."""

    def __init__(
        self, prefix: str, emit: Callable[[KvEvent], None], end: Callable[[], None], on_message: Callable[[], None]
    ) -> None:
        self._prefix = prefix
        self._emit = emit
        self._end = end
        self._on_message = on_message
        self._early: list[Msg] = []
        """Changes that came before the whole bucket was read."""
        self._synced = False
        self._last = 0
        """The sequence of the newest event."""
        self._last_change = 0
        """The sequence of the newest change that came: the next one has the next number."""
        self._missing = 0
        """What the server has and did not send, as of the last comparison."""
        self._seen: set[str] = set()

    def read(self, message: Msg) -> None:
        """A message that the bucket holds."""
        self._on_message()
        self._take(message)

    def synced(self) -> None:
        """The whole bucket was read: emit `SYNCED`, then what changed meanwhile."""
        self._synced = True
        self._emit(KvEvent(KvOperation.SYNCED))
        early, self._early = self._early, []
        for message in early:
            if sequence(message) > self._last:
                self._take(message)

    async def receive(self, message: Msg) -> None:
        """A change."""
        self._on_message()
        number = sequence(message)
        if self._last_change and number != self._last_change + 1:
            self._end()
            return
        self._last_change = number
        if not self._synced:
            self._early.append(message)
        elif number > self._last:
            self._take(message)

    def compare(self, newest: int) -> None:
        """The server has stored `newest` last. What does not come until the next comparison will not come."""
        behind = newest > self._last
        if behind and newest == self._missing:
            self._end()
        self._missing = newest if behind else 0

    def _take(self, message: Msg) -> None:
        event = kv_event(message, self._prefix)
        self._last = event.revision
        if event.operation is KvOperation.PUT:
            self._seen.add(event.key)
        elif event.key not in self._seen and not self._synced:
            return
        self._emit(event)


def kv_event(message: Msg, prefix: str) -> KvEvent:
    """A message of a bucket's stream, read or sent live, as an event."""
    headers = message.headers or {}
    key = headers[SUBJECT_HEADER].removeprefix(prefix)
    if KV_OP in headers or KV_MARKER_REASON in headers:
        return KvEvent(KvOperation.DELETE, key, revision=sequence(message))
    return KvEvent(KvOperation.PUT, key, message.data, sequence(message))
