"""Payloads too large for one NATS message: chunks in a stream, and a reference in a header.

Chunk `n` of object `id` is the message on `llmos.v1.objects.<sender>.<topic>.<id>.<n>`: whoever receives the sender's
messages about a topic may read its objects about it. The stream forgets chunks after `OBJECT_TTL_S`. A requester
removes its object when the response is there; that of a response is read at once, and gone after `REPLY_TTL_S`.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from shared.bus.names import OBJECTS_STREAM, OBJECTS_SUBJECT
from shared.bus.nats.jetstream import FULL, JetStream, unexpected
from shared.bus.replies import check_size
from shared.errors import Overloaded, Unavailable

OBJECT_HEADER = "Llmos-Object"
"""`<sender>.<topic>.<id> <chunks> <bytes>`; the body is empty then."""
OBJECT_TTL_S = 300.0
REPLY_TTL_S = 30.0
OBJECTS_BYTES = 512 * 1024 * 1024
"""Bytes of all objects in flight; beyond that senders get `Overloaded`."""
EMPTY_TTL_S = 1.0
"""What is left of a removed chunk is gone after this."""
CHUNK = 256 * 1024
IN_FLIGHT = 8
"""Chunks on the wire at once in each direction, of all payloads of a connection: nats-server cuts a client off that
leaves 64 MiB unread."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Where a large payload is."""

    name: str
    """`<sender>.<topic>.<id>`."""
    chunks: int
    size: int

    @classmethod
    def parse(cls, header: str) -> "ObjectRef":
        """From the header; raises ValueError."""
        name, chunks, size = header.split(" ")
        return cls(name, int(chunks), int(size))

    def __str__(self) -> str:
        return f"{self.name} {self.chunks} {self.size}"


class NatsObjects:
    """Puts, gets and removes large payloads.

    Args:
        jetstream: Where.
        sender: Whose objects `put` makes: the user of the bus.
    """

    def __init__(self, jetstream: JetStream, sender: str) -> None:
        self._jetstream = jetstream
        self._sender = sender
        self._ready = False
        self._putting = asyncio.Semaphore(IN_FLIGHT)
        self._getting = asyncio.Semaphore(IN_FLIGHT)

    async def put(self, data: bytes, topic: str, *, ttl: float = OBJECT_TTL_S) -> ObjectRef:
        """Store the payload for `ttl` seconds.

        Raises `PayloadTooLarge`, `Overloaded` when the stream is full, `Unavailable`.
        """
        check_size(len(data))
        ref = ObjectRef(f"{self._sender}.{topic}.{uuid.uuid4().hex}", -(-len(data) // CHUNK), len(data))

        async def put_chunk(index: int) -> None:
            chunk = data[index * CHUNK : (index + 1) * CHUNK]
            async with self._putting:
                await self._jetstream.call(
                    lambda: self._jetstream.context.publish(_subject(ref, index), chunk, msg_ttl=ttl),
                    ensure=self.ensure,
                )

        try:
            await _all(put_chunk, ref.chunks)
        except APIError as error:
            await self.remove(ref)
            if error.err_code == FULL:
                raise Overloaded("the bus cannot hold another large message now", retry_after=5.0) from error
            raise unexpected("a large message", error) from error
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """The payload; raises `Unavailable` when it is no longer there."""
        parts: list[bytes] = [b""] * ref.chunks

        async def get_chunk(index: int) -> None:
            async with self._getting:
                message = await self._jetstream.call(
                    lambda: self._jetstream.manager.get_msg(OBJECTS_STREAM, subject=_subject(ref, index), direct=True)
                )
                parts[index] = message.data or b""

        try:
            await _all(get_chunk, ref.chunks)
        except NotFoundError as error:
            raise Unavailable(f"a large message came {OBJECT_TTL_S:g} s too late: its content is gone") from error
        except APIError as error:
            raise unexpected("reading a large message", error) from error
        data = b"".join(parts)
        if len(data) != ref.size:
            raise Unavailable(f"a large message has {len(data)} bytes instead of {ref.size}: its content is gone")
        return data

    async def remove(self, ref: ObjectRef) -> None:
        """Put nothing in the place of a payload of this sender; what can't be removed now expires.

        Purging is not a right that a service could have for its own objects alone.
        """

        async def empty_chunk(index: int) -> None:
            await self._jetstream.call(
                lambda: self._jetstream.context.publish(_subject(ref, index), b"", msg_ttl=EMPTY_TTL_S)
            )

        try:
            await _all(empty_chunk, ref.chunks)
        except APIError as error:
            raise unexpected("removing a large message", error) from error

    async def ensure(self, lost: bool) -> None:
        """Make the stream if it is not there."""
        if self._ready and not lost:
            return
        config = StreamConfig(
            name=OBJECTS_STREAM,
            subjects=[f"{OBJECTS_SUBJECT}.>"],
            max_age=OBJECT_TTL_S,
            max_bytes=OBJECTS_BYTES,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            storage=StorageType.FILE,
            allow_direct=True,
            allow_msg_ttl=True,
        )
        await self._jetstream.ensure_stream(config, suits=lambda found: bool(found.allow_msg_ttl))
        self._ready = True


def _subject(ref: ObjectRef, index: int) -> str:
    return f"{OBJECTS_SUBJECT}.{ref.name}.{index}"


async def _all(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """`work(0)` … `work(count - 1)` at once; the first error cancels the rest and is raised itself."""
    tasks = [asyncio.ensure_future(work(index)) for index in range(count)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
