"""Event streams in memory."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog

from shared.bus.handlers import run_handler
from shared.bus.names import check_bucket, check_subject, matches
from shared.bus.port import MAX_ATTEMPTS, MAX_RECORD, Handler, Message
from shared.bus.tasks import end
from shared.errors import Conflict, Disconnected, PayloadTooLarge

_log = structlog.get_logger("llmos.bus")

RETRY_S = 0.05


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
    """Held while a message of a durable consumer is handled: two processes with one name share its messages."""
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
        """Cancel the running handler; returns how many were cancelled."""
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
                    pending = sum(at > position for at, _, _ in stream.messages)
                    work = run_handler(self._handler, replace(message, pending=pending))
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

    async def last(self, count: int, *, before: int | None = None) -> list[tuple[int, Message]]:
        """The newest `count` messages (of those before a position), oldest first, each with its position."""
        found = [(at, message) for at, message in self._stored() if before is None or at < before]
        return found[-count:] if count > 0 else []

    async def after(self, position: int, subject: str, *, limit: int) -> list[tuple[int, Message]]:
        """The first `limit` messages on `subject` behind `position`, each with its own; 0: from the beginning."""
        check_subject(subject, wildcards=True)
        behind = (
            (at, message) for at, message in self._stored() if at > position and matches(subject, message.subject)
        )
        return list(islice(behind, limit))

    async def newest(self, subject: str) -> tuple[int, Message] | None:
        """The newest message on exactly this subject, with its position; None: there is none."""
        check_subject(subject)
        return next(((at, message) for at, message in reversed(self._stored()) if message.subject == subject), None)

    async def append(self, subject: str, data: bytes, *, after: int, removes: bool = False) -> int:  # noqa: ARG002  # there is always room
        """Store a message; its position. See `EventStream.append`."""
        if len(data) > MAX_RECORD:
            raise PayloadTooLarge(f"an event has {len(data)} bytes; one may have at most {MAX_RECORD}")
        newest = await self.newest(subject)
        if (newest[0] if newest else 0) != after:
            raise Conflict(f"{subject} has newer messages than that at {after}")
        self._stream.capture(Message(subject, data))
        return self._stream.sequence

    def _stored(self) -> list[tuple[int, Message]]:
        """All messages with their positions; raises `Disconnected`."""
        if not self._connected():
            raise Disconnected("the bus connection is down; it is being made again")
        self._stream.trim()
        return [(at, message) for at, _, message in self._stream.messages]
