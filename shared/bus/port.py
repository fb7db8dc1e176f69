"""The port that every service programs against. Two adapters stand behind it: `NatsBus` and `MemoryBus`.

Payloads are bytes; `shared.bus.rpc` puts contracts on top. Every adapter keeps these promises:

* A subscriber gets messages strictly in order, in the turn of the event loop that reads them. A request never blocks
  its subscription: each is handed to a bounded set of tasks, as is each event of a stream.
* `request` to a subject without a subscriber raises `NoResponders` at once, never a time-out.
* A payload above `OBJECT_THRESHOLD` travels as an object reference, unseen by both ends; above `MAX_OBJECT` it
  is a `PayloadTooLarge` at the sender.
* `traceparent` of the current OpenTelemetry context travels with requests, and is current in the handler.
* While the connection is down `publish` drops (fire and forget), `request` raises `Disconnected`;
  the adapter reconnects without end, and `connected` says so.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

MAX_PAYLOAD = 1024 * 1024
"""Bytes of one NATS message at most, headers included; the server is configured with it."""
OBJECT_THRESHOLD = MAX_PAYLOAD // 2
"""Bytes above which a payload travels as an object reference."""
MAX_OBJECT = 64 * 1024 * 1024
"""Bytes above which a payload is `PayloadTooLarge`."""
MAX_RECORD = MAX_PAYLOAD - 16 * 1024
"""Bytes above which a KV value is `PayloadTooLarge`: it outlives object references, so it never is one."""

RESPOND_CONCURRENCY = 256
"""Requests that one subscription handles at once."""
MAX_ATTEMPTS = 5
"""An event whose handler fails this often is given up, and logged."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as its receiver sees it."""

    subject: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    pending: int = 0
    """For a consumer of a stream: messages behind this one."""


Receive = Callable[[Message], None]
"""Handles a message at once: what takes long or waits belongs into a task. What it raises is logged."""
Handler = Callable[[Message], Awaitable[None]]
Responder = Callable[[Message], Awaitable[bytes]]
"""Returns the response. A raised `LlmosError` crosses the bus and is raised again in `request`;
anything else is logged with an id and arrives as `Internal` naming that id."""


class Subscription(Protocol):
    """A live subscription."""

    async def unsubscribe(self) -> None:
        """Take nothing new; hand over what has arrived, and wait for the handlers that run. Idempotent."""


@dataclass(frozen=True, slots=True)
class KvEntry:
    """A value with the revision that compare-and-set needs."""

    key: str
    value: bytes
    revision: int


class KvOperation(StrEnum):
    """What happened to a key, or to the watch."""

    PUT = "put"
    DELETE = "delete"
    SYNCED = "synced"
    """All entries that existed when the watch began have been sent. `key` is empty. After a reconnect the watch sends
    the whole bucket again, then a DELETE of each key that is gone, and then another SYNCED."""


@dataclass(frozen=True, slots=True)
class KvEvent:
    """A change of a bucket."""

    operation: KvOperation
    key: str = ""
    value: bytes = b""
    revision: int = 0


class Watch(Protocol):
    """The events of a bucket (an async iterator), and whether they can be trusted to be all of them."""

    def __aiter__(self) -> AsyncIterator[KvEvent]:
        """Itself."""

    async def __anext__(self) -> KvEvent:
        """The next event; never ends."""

    @property
    def fresh(self) -> bool:
        """Whether the bucket is seen as it is now.

        False before the first `SYNCED` was read, and from the loss of the connection (or of the server's attention)
        until the next `SYNCED` was read. A reader of a watch that is not fresh must not conclude that a key is gone.
        """


class KeyValue(Protocol):
    """A bucket: `shared.bus.access` lists those of LLMOS. Survives restarts of the server."""

    async def get(self, key: str) -> KvEntry | None:
        """The entry, or None."""

    async def put(self, key: str, value: bytes) -> int:
        """Write whether the key exists or not; returns the new revision."""

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that must not exist; raises `Conflict`."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the entry is still at `revision`; raises `Conflict`."""

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove the key, if given only at `revision` (raises `Conflict`). A missing key is no error."""

    async def entries(self, pattern: str = ">") -> list[KvEntry]:
        """The entries whose keys match, by key: `a.*` has `a.b`, but not `a.b.c`."""

    def watch(self) -> AbstractAsyncContextManager[Watch]:
        """All that is there, `SYNCED`, then every change, in order, across reconnects."""


class EventStream(Protocol):
    """A durable stream with limits, oldest discarded first."""

    async def consume(self, handler: Handler, *, durable: str) -> Subscription:
        """Every message from where `durable` stopped last; acknowledged when the handler returns.

        One at a time. A handler that raises is given the message again, five times in all, then left and logged.
        """

    async def last(self, count: int, *, before: int | None = None) -> list[tuple[int, Message]]:
        """The newest `count` messages (of those before a position), oldest first, each with its position."""

    async def after(self, position: int, subject: str, *, limit: int) -> list[tuple[int, Message]]:
        """The first `limit` messages on `subject` behind `position`, each with its own; 0: from the beginning."""

    async def newest(self, subject: str) -> tuple[int, Message] | None:
        """The newest message on exactly this subject, with its position; None: there is none."""

    async def append(self, subject: str, data: bytes, *, after: int, removes: bool = False) -> int:
        """Store a message of at most `MAX_RECORD` bytes; its position, once the server has acknowledged it.

        Raises `Conflict`, and stores nothing, unless the newest on `subject` is at the position `after` (0: there is
        none); `StorageFull` while there is no room for changes, unless it `removes`: what it records is a removal.
        After `DeadlineExceeded` or `Disconnected` it may have been stored. For readers of the stream: a subscriber
        of the subject also hears what was refused.
        """


class Bus(Protocol):
    """One connection per process."""

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Fire and forget (also into streams that listen on the subject).

        A payload above `OBJECT_THRESHOLD` is stored first, which may raise `Unavailable` or `Overloaded`; it
        expires after five minutes.
        """

    def try_publish(self, subject: str, data: bytes) -> bool:
        """As `publish`, but in this turn of the event loop. False, and nothing is sent, where that must wait.

        It must for a payload above `OBJECT_THRESHOLD`, for a server that does not keep up, and for a connection.
        """

    async def subscribe(self, subject: str, receive: Receive, *, queue: str | None = None) -> Subscription:
        """Call `receive` for each message, in order. Active at the server on return.

        While the connection is down it waits for it. Raises `PermissionDenied` when the server refuses.
        """

    async def respond(self, subject: str, responder: Responder, *, queue: str | None = None) -> Subscription:
        """Respond to requests on `subject`. Active at the server on return."""

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The response; raises the responder's error, `NoResponders`, `Disconnected` or `DeadlineExceeded`."""

    def kv(self, bucket: str, *, ttl: float | None = None, max_bytes: int | None = None) -> KeyValue:
        """A bucket; entries not rewritten for `ttl` seconds expire (without an event: see `shared.bus.leases`).

        None: as the bucket was made, else they do not expire. Another `ttl` than before changes the bucket. What does
        not fit in `max_bytes` raises `StorageFull`; None: as the bucket was made, else all that the server takes.
        """

    def stream(self, name: str, subjects: list[str], *, max_bytes: int, max_age: float) -> EventStream:
        """A durable stream; `shared.bus.access` lists those of LLMOS."""

    async def drain(self) -> None:
        """Unsubscribe everything, let handlers finish, flush, close. Idempotent."""
