"""A core NATS subscription that hands its messages to a bounded set of tasks."""

import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from shared.bus.handlers import HandlerTasks
from shared.bus.nats_connection import NatsConnection
from shared.errors import PermissionDenied

_log = structlog.get_logger("llmos.bus")

CONFIRM_S = 2.0
"""How long the server may take to confirm a subscription before it is asked again."""


class NatsSubscription:
    """One subject, its tasks, and how it ends."""

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
    ) -> None:
        self.subject = subject
        self.queue = queue
        self._connection = connection
        self._tasks = HandlerTasks(run, concurrency, context)
        self._forget = forget
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
        self._inner = await self._connection.client.subscribe(
            self.subject, queue=self.queue or "", cb=self._tasks.start
        )

    async def unsubscribe(self) -> None:
        """Take nothing new; handle what has arrived, and wait for it."""
        if not self._ended:
            self._ended = True
            self._forget(self)
            await self._detach()
        await self._tasks.finish()

    def cancel(self) -> int:
        """Cancel the handlers that run, and answer how many they were."""
        return self._tasks.cancel()

    async def _detach(self) -> None:
        inner = self._inner
        if inner is None:
            return
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
