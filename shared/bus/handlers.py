"""Runs handlers: each message in a task of its own, a limited number at once."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import structlog
from opentelemetry import context as otel_context
from opentelemetry import propagate

from shared.bus.port import Handler, Message, Receive
from shared.panics import STOPS

_log = structlog.get_logger("llmos.bus")

Item = TypeVar("Item")


class HandlerTasks(Generic[Item]):
    """The running handlers of one subscription.

    Args:
        run: What is done with each item. It must not raise.
        concurrency: How many run at once; with 1 items are handled strictly in order.
        context: Each task runs in a copy of it, never in that of the subscriber.
    """

    def __init__(
        self, run: Callable[[Item], Coroutine[Any, Any, None]], concurrency: int, context: contextvars.Context
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        self._run = run
        self._free = asyncio.Semaphore(concurrency)
        self._context = context
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, item: Item) -> None:
        """Hand the item to a task of its own.

        Waits while `concurrency` tasks run: the back-pressure reaches the subscription's own queue.
        """
        await self._free.acquire()
        task = asyncio.get_running_loop().create_task(self._run(item), context=self._context.copy())
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def finish(self) -> None:
        """Wait for the handlers that run. A handler may call this: it does not wait for itself."""
        while others := self._running - {asyncio.current_task()}:
            await asyncio.wait(others)

    def cancel(self) -> int:
        """Cancel the running handlers; returns how many."""
        others = self._running - {asyncio.current_task()}
        for task in others:
            task.cancel()
        return len(others)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free.release()


def hand_over(receive: Receive, message: Message) -> None:
    """Call the receiver; log what it raises."""
    try:
        receive(message)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001  # the boundary of a service: one bad message must not end the subscription
        _log.exception("bus.receiver_failed", subject=message.subject)


async def run_handler(handler: Handler, message: Message) -> bool:
    """Call the handler with the sender's trace current; log what it raises. Returns whether it succeeded."""
    attach_trace(message)
    try:
        await handler(message)
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001  # the boundary of a service: one bad message must not end the subscription
        _log.exception("bus.handler_failed", subject=message.subject)
        return False
    return True


def attach_trace(message: Message) -> None:
    """Make the sender's trace, and for whom it works, current in this task, if the message carries them."""
    if "traceparent" in message.headers or "baggage" in message.headers:
        otel_context.attach(propagate.extract(message.headers))


def with_trace(headers: dict[str, str]) -> dict[str, str]:
    """Add the current trace, and for whom this task works (`shared.audit.caller`), to the headers; return them."""
    propagate.inject(headers)
    return headers
