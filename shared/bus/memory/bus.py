"""The bus inside one process: for tests, and for LLMOS in a single process."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from shared.bus.handlers import HandlerTasks, attach_trace, hand_over, with_trace
from shared.bus.memory.broker import Delivery, MemoryBroker, Receiver
from shared.bus.memory.kv import MemoryKeyValue
from shared.bus.memory.streams import MemoryConsumption, MemoryEventStream, Stream
from shared.bus.names import check_bucket, check_subject
from shared.bus.port import OBJECT_THRESHOLD, RESPOND_CONCURRENCY, Message, Receive, Responder
from shared.bus.replies import Reply, check_size, error_reply, reply_of, unwrap
from shared.deadlines import HANDLERS_DRAIN_S
from shared.errors import DeadlineExceeded, Disconnected, NoResponders, PayloadTooLarge

__all__ = ["MemoryBroker", "MemoryBus"]

_log = structlog.get_logger("llmos.bus")


class MemorySubscription:
    """One subject: a queue of deliveries, handed one after the other to a bounded set of tasks."""

    def __init__(
        self,
        broker: MemoryBroker,
        receiver_of: Callable[[Callable[[Delivery], None]], Receiver],
        run: Callable[[Delivery], Coroutine[Any, Any, None]],
        *,
        concurrency: int,
        context: contextvars.Context,
        forget: Callable[["MemorySubscription"], None],
    ) -> None:
        self._broker = broker
        self._tasks = HandlerTasks(run, concurrency, context)
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._receiver = receiver_of(self._arrived.put_nowait)
        self._forget = forget
        broker.receivers.append(self._receiver)
        self._pump = asyncio.get_running_loop().create_task(self._hand_off())

    async def unsubscribe(self) -> None:
        """Take nothing new; handle what has arrived, and wait for it."""
        if self._receiver in self._broker.receivers:
            self._broker.receivers.remove(self._receiver)
            self._forget(self)
            await self._arrived.join()
            self._pump.cancel()
        await self._tasks.finish()

    def cancel(self) -> int:
        """Cancel the running handlers; returns how many."""
        self._pump.cancel()
        return self._tasks.cancel()

    async def _hand_off(self) -> None:
        while True:
            delivery = await self._arrived.get()
            await self._tasks.start(delivery)
            self._arrived.task_done()


class MemoryBus:
    """One connection to a `MemoryBroker`; without one, to a broker of its own."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self._subscriptions: set[MemorySubscription] = set()
        self._consumptions: set[MemoryConsumption] = set()
        self._waiting: set[asyncio.Future[Reply]] = set()
        self._context = contextvars.copy_context()
        self._closed = False
        self._drained: asyncio.Task[None] | None = None
        self.broker.on_change(self._connection_changed)

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self.broker.running and not self._closed

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Fire and forget (also into streams that listen on the subject)."""
        check_size(len(data))
        check_subject(subject)
        if self.connected:
            self.broker.deliver(Delivery(Message(subject, bytes(data), dict(headers or {}))))

    def try_publish(self, subject: str, data: bytes) -> bool:
        """See `Bus.try_publish`."""
        check_subject(subject)
        if len(data) > OBJECT_THRESHOLD or not self.connected:
            return False
        self.broker.deliver(Delivery(Message(subject, bytes(data))))
        return True

    async def subscribe(self, subject: str, receive: Receive, *, queue: str | None = None) -> MemorySubscription:
        """Call `receive` for each message, in order."""

        async def run(delivery: Delivery) -> None:
            hand_over(receive, delivery.message)

        return await self._subscribe(subject, run, queue, 1)

    async def respond(self, subject: str, responder: Responder, *, queue: str | None = None) -> MemorySubscription:
        """Respond to requests on `subject`."""

        async def run(delivery: Delivery) -> None:
            attach_trace(delivery.message)
            reply = await reply_of(responder, delivery.message)
            try:
                check_size(len(reply.data))
            except PayloadTooLarge as error:
                _log.exception("bus.reply_too_large", subject=subject, bytes=len(reply.data))
                reply = error_reply(error)
            if self.connected:
                delivery.reply(reply)

        return await self._subscribe(subject, run, queue, RESPOND_CONCURRENCY)

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The response; raises the responder's error, `NoResponders`, `Disconnected` or `DeadlineExceeded`."""
        check_size(len(data))
        check_subject(subject)
        self._reach()
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def reply(given: Reply) -> None:
            if not waiting.done():
                waiting.set_result(given)

        message = Message(subject, bytes(data), with_trace(dict(headers or {})))
        if self.broker.deliver(Delivery(message, reply)) == 0:
            raise NoResponders(f"no process responds on {subject} now")
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(timeout):
                given = await waiting
        except TimeoutError as error:
            raise DeadlineExceeded(f"no response from {subject} within {timeout:g} s") from error
        finally:
            self._waiting.discard(waiting)
        return unwrap(given.data, given.headers)

    def kv(self, bucket: str, *, ttl: float | None = None, max_bytes: int | None = None) -> MemoryKeyValue:
        """A bucket; entries not rewritten for `ttl` seconds expire (None: as the bucket was made)."""
        return MemoryKeyValue(self.broker, bucket, ttl, max_bytes, lambda: self.connected)

    def stream(self, name: str, subjects: list[str], *, max_bytes: int, max_age: float) -> MemoryEventStream:
        """A durable stream; made on first use."""
        check_bucket(name)
        for subject in subjects:
            check_subject(subject, wildcards=True)
        made = Stream(self.broker.clock, sorted(subjects), max_bytes, max_age)
        stream = self.broker.streams.setdefault(name, made)
        stream.subjects, stream.max_bytes, stream.max_age = made.subjects, max_bytes, max_age
        return MemoryEventStream(stream, lambda: self.connected, self._context, self._consumptions)

    async def drain(self) -> None:
        """Unsubscribe everything, let handlers finish (for `HANDLERS_DRAIN_S`), close. Idempotent."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_task(self._drain())
        await asyncio.shield(self._drained)

    async def _drain(self) -> None:
        parts: list[MemorySubscription | MemoryConsumption] = [*self._subscriptions, *self._consumptions]
        ending = [asyncio.ensure_future(part.unsubscribe()) for part in parts]
        if ending:
            _, late = await asyncio.wait(ending, timeout=HANDLERS_DRAIN_S)
            if late:
                cancelled = sum(part.cancel() for part in parts)
                _log.warning("bus.drain_incomplete", seconds=HANDLERS_DRAIN_S, handlers_cancelled=cancelled)
        self._closed = True
        self.broker.forget(self._connection_changed)
        self._connection_changed()

    async def _subscribe(
        self, subject: str, run: Callable[[Delivery], Coroutine[Any, Any, None]], queue: str | None, concurrency: int
    ) -> MemorySubscription:
        check_subject(subject, wildcards=True)
        if self._closed:
            raise Disconnected("the bus connection is closed")
        subscription = MemorySubscription(
            self.broker,
            lambda put: Receiver(subject, queue, put),
            run,
            concurrency=concurrency,
            context=self._context,
            forget=self._subscriptions.discard,
        )
        self._subscriptions.add(subscription)
        return subscription

    def _reach(self) -> None:
        if not self.connected:
            raise Disconnected("the bus connection is down; it is being made again")

    def _connection_changed(self) -> None:
        if self.connected:
            return
        for waiting in tuple(self._waiting):
            if not waiting.done():
                waiting.set_exception(Disconnected("the bus connection was lost before the response came; try again"))
