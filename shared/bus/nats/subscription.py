"""Core NATS subscriptions: how they begin and end, and how messages are handed over."""

import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from shared.bus.handlers import HandlerTasks, hand_over
from shared.bus.nats.client import Receiver
from shared.bus.nats.connection import NatsConnection
from shared.bus.port import Message, Receive
from shared.errors import PermissionDenied

_log = structlog.get_logger("llmos.bus")

CONFIRM_S = 2.0
"""Seconds that the server may take to confirm a subscription before the confirmation is requested again."""


class OrderedReceiver:
    """Hands messages over in order: a plain one at once; one that must be fetched, and all behind it, later."""

    def __init__(self, receive: Receive, read: Callable[[Msg], Awaitable[Message | None]]) -> None:
        self._receive = receive
        self._read = read
        self._late = 0
        """Messages that are fetched, or wait for one that is."""

    def receive_now(self, subject: str, data: bytes) -> bool:
        """See `Receiver.receive_now`."""
        if self._late:
            return False
        hand_over(self._receive, Message(subject, data))
        return True

    def expect_later(self) -> None:
        """See `Receiver.expect_later`."""
        self._late += 1

    async def receive_later(self, raw: Msg) -> None:
        """Fetch a message and hand it over. One call at a time, in order."""
        try:
            message = await self._read(raw)
            if message is not None:
                hand_over(self._receive, message)
        finally:
            self._late -= 1


class NatsSubscription:
    """One subject, its tasks, and how it ends.

    Args:
        connection: Where.
        subject: What, with wildcards.
        queue: With it, each message goes to one of its members.
        run: Handles a message in a task.
        concurrency: Tasks at once.
        context: Theirs.
        forget: Called when it ends.
        receiver: Gets each message without headers first.
    """

    def __init__(
        self,
        connection: NatsConnection,
        subject: str,
        queue: str | None,
        run: Callable[[Msg], Coroutine[Any, Any, None]],
        *,
        concurrency: int,
        context: contextvars.Context,
        forget: Callable[["NatsSubscription"], None],
        receiver: Receiver | None = None,
    ) -> None:
        self.subject = subject
        self.queue = queue
        self._connection = connection
        self._tasks = HandlerTasks(run, concurrency, context)
        self._forget = forget
        self._receiver = receiver
        self._inner: Subscription | None = None
        self._ended = False

    async def activate(self) -> None:
        """Subscribe, and wait until the server has confirmed it; while it is down, until it is back.

        Raises `PermissionDenied` when the server refuses the subject to these credentials.
        """
        connection = self._connection
        connection.denied.pop(self.subject.lower(), None)
        await self.attach()
        while True:
            await connection.up()
            try:
                # Twice: nats-py writes a PING at once, but SUB only in the next turn of the loop, so the first PONG
                # may come before the server has seen SUB. The second PING goes out after it.
                for _ in range(2):
                    await connection.client.flush(timeout=CONFIRM_S)  # type: ignore[arg-type]  # takes fractions
                break
            except Error:
                _log.warning("bus.subscribe_unconfirmed", subject=self.subject, retrying=True)
        if self.subject.lower() in connection.denied:
            raise PermissionDenied(
                f"the bus does not let {connection.name} subscribe to {self.subject}: check its NATS credentials"
            )

    async def attach(self) -> None:
        """Subscribe with the connection's client of the moment."""
        client = self._connection.client
        self._inner = await client.subscribe(self.subject, queue=self.queue or "", cb=self._tasks.start)
        if self._receiver is not None:
            client.receivers[self._inner._id] = self._receiver  # noqa: SLF001  # the read loop's key

    async def unsubscribe(self) -> None:
        """Take nothing new; handle what has arrived, and wait for it."""
        if not self._ended:
            self._ended = True
            self._forget(self)
            await self._detach()
        await self._tasks.finish()

    def cancel(self) -> int:
        """Cancel the running handlers; returns how many."""
        return self._tasks.cancel()

    async def _detach(self) -> None:
        inner = self._inner
        if inner is None:
            return
        try:
            await self._end(inner)
        finally:
            self._connection.client.receivers.pop(inner._id, None)  # noqa: SLF001

    async def _end(self, inner: Subscription) -> None:
        if not self._connection.connected:
            with contextlib.suppress(Error):
                await inner.unsubscribe()
            return
        try:
            # The server stops sending, and what it has sent already is handled.
            await inner.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it without types
        except Error as error:
            _log.info("bus.unsubscribe_unconfirmed", subject=self.subject, error=str(error))
            # nats-py would subscribe again after a reconnect: a failed drain leaves the entry in its table.
            self._connection.client._remove_sub(inner._id)  # noqa: SLF001
            inner._stop_processing()  # noqa: SLF001
