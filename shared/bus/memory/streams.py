"""Work queues and event streams in memory."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from shared.bus.handlers import run_handler
from shared.bus.names import check_bucket, matches
from shared.bus.port import MAX_RECORD, Handler, Job, Message
from shared.bus.tasks import end
from shared.errors import Disconnected, PayloadTooLarge

_log = structlog.get_logger("llmos.bus")

ACK_WAIT_S = 30.0
DUPLICATE_WINDOW_S = 120.0
MAX_ATTEMPTS = 5
RETRY_S = 0.05


@dataclass(slots=True, eq=False)
class _Work:
    data: bytes
    attempt: int = 0
    due: float = 0.0
    """When it is delivered (again): 0 at once, infinity after an ack."""


@dataclass(slots=True, eq=False)
class Queue:
    """The jobs of a work queue."""

    clock: Callable[[], float]
    ack_wait: float = ACK_WAIT_S
    jobs: list[_Work] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, data: bytes, message_id: str | None) -> None:
        """Queue a job, unless its id was queued within the window."""
        now = self.clock()
        self.seen = {name: at for name, at in self.seen.items() if now - at < DUPLICATE_WINDOW_S}
        if message_id is not None:
            if message_id in self.seen:
                return
            self.seen[message_id] = now
        self.jobs.append(_Work(data))
        self.changed.set()

    def next_due(self) -> _Work | None:
        """The first job that may be delivered now; it is held for `ack_wait` seconds."""
        now = self.clock()
        for work in self.jobs:
            if work.due <= now:
                work.attempt += 1
                work.due = now + self.ack_wait
                return work
        return None

    def wait(self) -> float | None:
        """Seconds until a held job is due again; None when none is held."""
        return min((max(0.0, work.due - self.clock()) for work in self.jobs), default=None)


class MemoryWorkQueue:
    """A work queue through one connection."""

    def __init__(self, queue: Queue, connected: Callable[[], bool]) -> None:
        self._queue = queue
        self._connected = connected

    async def put(self, data: bytes, *, message_id: str | None = None) -> None:
        """Queue a job; the same `message_id` within two minutes is queued once."""
        if len(data) > MAX_RECORD:
            raise PayloadTooLarge(
                f"a job of {len(data)} bytes is larger than {MAX_RECORD}; put its data into the artifact store"
            )
        self._reach()
        self._queue.put(data, message_id)

    async def take(self, timeout: float) -> Job | None:
        """The next job, or None after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            self._reach()
            work = self._queue.next_due()
            if work is not None:
                return self._job(work)
            left = deadline - loop.time()
            if left <= 0:
                return None
            self._queue.changed.clear()
            held = self._queue.wait()
            try:
                async with asyncio.timeout(left if held is None else min(left, held + 0.001)):
                    await self._queue.changed.wait()
            except TimeoutError:
                continue

    def _job(self, work: _Work) -> Job:
        async def ack() -> None:
            self._reach()
            if work in self._queue.jobs:
                self._queue.jobs.remove(work)

        async def nack() -> None:
            self._reach()
            work.due = 0.0
            self._queue.changed.set()

        async def in_progress() -> None:
            self._reach()
            work.due = self._queue.clock() + self._queue.ack_wait

        return Job(work.data, work.attempt, ack, nack, in_progress)

    def _reach(self) -> None:
        if not self._connected():
            raise Disconnected("the bus connection is down; it is being made again")


@dataclass(slots=True, eq=False)
class Stream:
    """The messages of an event stream, and how far each durable consumer has come."""

    clock: Callable[[], float]
    subjects: list[str]
    max_bytes: int
    max_age: float
    messages: "deque[tuple[int, float, Message]]" = field(default_factory=deque)
    size: int = 0
    sequence: int = 0
    positions: dict[str, int] = field(default_factory=dict)
    turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    """Held by whoever handles a message of a durable consumer: two processes with one name share its messages."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def capture(self, message: Message) -> None:
        """Keep the message if the stream listens on its subject."""
        if not any(matches(pattern, message.subject) for pattern in self.subjects):
            return
        self.sequence += 1
        self.messages.append((self.sequence, self.clock(), message))
        self.size += len(message.data)
        self.trim()
        self.changed.set()

    def trim(self) -> None:
        """Forget what is too old or too much, oldest first."""
        oldest = self.clock() - self.max_age
        while self.messages and (self.size > self.max_bytes or self.messages[0][1] <= oldest):
            _, _, message = self.messages.popleft()
            self.size -= len(message.data)

    def after(self, position: int) -> tuple[int, Message] | None:
        """The first message behind `position`, with its own position."""
        self.trim()
        for sequence, _, message in self.messages:
            if sequence > position:
                return sequence, message
        return None


class MemoryConsumption:
    """One durable consumer at work; a `Subscription`."""

    def __init__(
        self,
        stream: Stream,
        connected: Callable[[], bool],
        handler: Handler,
        durable: str,
        alive: set["MemoryConsumption"],
    ) -> None:
        self._stream = stream
        self._connected = connected
        self._handler = handler
        self._durable = durable
        self._alive = alive
        self._ending = False
        self._handling: asyncio.Task[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, context: contextvars.Context) -> None:
        """Begin to pull."""
        self._alive.add(self)
        self._task = asyncio.get_running_loop().create_task(self._follow(context), context=context.copy())

    async def unsubscribe(self) -> None:
        """Take nothing new, and wait for the handler that runs."""
        self._alive.discard(self)
        self._ending = True
        if self._handling is asyncio.current_task():
            return
        if self._handling is not None:
            await asyncio.wait([self._handling])
        await end(self._task)

    def cancel(self) -> int:
        """Cancel the handler that runs, and answer how many were cancelled."""
        self._ending = True
        return int(self._handling is not None and self._handling.cancel())

    async def _follow(self, context: contextvars.Context) -> None:
        stream, durable = self._stream, self._durable
        attempts = 0
        while not self._ending:
            async with stream.turns.setdefault(durable, asyncio.Lock()):
                found = stream.after(stream.positions.get(durable, 0)) if self._connected() else None
                if found is not None and not self._ending:
                    position, message = found
                    attempts += 1
                    work = run_handler(self._handler, message)
                    self._handling = asyncio.get_running_loop().create_task(work, context=context.copy())
                    await asyncio.wait([self._handling])
                    good = not self._handling.cancelled() and self._handling.result()
                    if not good and attempts >= MAX_ATTEMPTS:
                        _log.error("bus.event_given_up", durable=durable, subject=message.subject, attempts=attempts)
                        good = True
                    if good:
                        stream.positions[durable], attempts = position, 0
                        continue
            await self._pause(retry=found is not None)

    async def _pause(self, *, retry: bool) -> None:
        if retry or not self._connected():
            await asyncio.sleep(RETRY_S)
            return
        self._stream.changed.clear()
        await self._stream.changed.wait()


class MemoryEventStream:
    """An event stream through one connection."""

    def __init__(
        self,
        stream: Stream,
        connected: Callable[[], bool],
        context: contextvars.Context,
        alive: set["MemoryConsumption"],
    ) -> None:
        self._stream = stream
        self._connected = connected
        self._context = context
        self._alive = alive

    async def consume(self, handler: Handler, *, durable: str) -> "MemoryConsumption":
        """Every message from where `durable` stopped last; acknowledged when the handler returns."""
        check_bucket(durable)
        if not self._connected():
            raise Disconnected("the bus connection is down; it is being made again")
        self._stream.positions.setdefault(durable, 0)
        consumption = MemoryConsumption(self._stream, self._connected, handler, durable, self._alive)
        consumption.start(self._context)
        return consumption

    async def last(self, count: int) -> list[Message]:
        """The newest `count` messages, oldest first."""
        if not self._connected():
            raise Disconnected("the bus connection is down; it is being made again")
        self._stream.trim()
        return [message for _, _, message in list(self._stream.messages)[-count:]] if count > 0 else []
