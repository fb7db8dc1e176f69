"""Payloads too large for one NATS message: chunks in a stream, and a reference in a header.

Chunk `n` of object `id` is the message on `llmos.v1.objects.<id>.<n>`. The stream forgets chunks after
`OBJECT_TTL_S`; request and reply remove theirs as soon as they are used.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from shared.bus.nats.jetstream import JetStream, unexpected
from shared.bus.replies import check_size
from shared.errors import Overloaded, Unavailable

OBJECT_HEADER = "Llmos-Object"
"""`<id> <chunks> <bytes>`; the body is empty then."""
OBJECTS_STREAM = "LLMOS_OBJECTS"
OBJECTS_SUBJECT = "llmos.v1.objects"
OBJECT_TTL_S = 300.0
OBJECTS_BYTES = 512 * 1024 * 1024
"""Bytes of all objects in flight; beyond that senders get `Overloaded`."""
CHUNK = 256 * 1024
IN_FLIGHT = 8
"""Chunks on the wire at once in each direction, of all payloads of a connection: nats-server cuts a client off that
leaves 64 MiB unread."""
_FULL = 10077
"""JetStream's error code of "maximum bytes exceeded"."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Where a large payload is."""

    id: str
    chunks: int
    size: int

    @classmethod
    def parse(cls, header: str) -> "ObjectRef":
        """From the header; raises ValueError."""
        name, chunks, size = header.split(" ")
        return cls(name, int(chunks), int(size))

    def __str__(self) -> str:
        return f"{self.id} {self.chunks} {self.size}"


class NatsObjects:
    """Puts, gets and removes large payloads."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self._ready = False
        self._putting = asyncio.Semaphore(IN_FLIGHT)
        self._getting = asyncio.Semaphore(IN_FLIGHT)

    async def put(self, data: bytes) -> ObjectRef:
        """Store the payload; raises `PayloadTooLarge`, `Overloaded` when the stream is full, `Unavailable`."""
        check_size(len(data))
        ref = ObjectRef(uuid.uuid4().hex, -(-len(data) // CHUNK), len(data))

        async def put_chunk(index: int) -> None:
            chunk = data[index * CHUNK : (index + 1) * CHUNK]
            async with self._putting:
                await self._jetstream.call(
                    lambda: self._jetstream.context.publish(f"{OBJECTS_SUBJECT}.{ref.id}.{index}", chunk),
                    ensure=self._ensure,
                )

        try:
            await _all(put_chunk, ref.chunks)
        except APIError as error:
            await self.remove(ref)
            if error.err_code == _FULL:
                raise Overloaded("the bus cannot hold another large message now", retry_after=5.0) from error
            raise unexpected("a large message", error) from error
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """The payload; raises `Unavailable` when it is no longer there."""
        parts: list[bytes] = [b""] * ref.chunks

        async def get_chunk(index: int) -> None:
            async with self._getting:
                message = await self._jetstream.call(
                    lambda: self._jetstream.manager.get_msg(
                        OBJECTS_STREAM, subject=f"{OBJECTS_SUBJECT}.{ref.id}.{index}", direct=True
                    )
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
        """Remove the payload; what cannot be removed now expires after `OBJECT_TTL_S`."""
        await self._jetstream.call(
            lambda: self._jetstream.manager.purge_stream(OBJECTS_STREAM, subject=f"{OBJECTS_SUBJECT}.{ref.id}.*")
        )

    async def _ensure(self, lost: bool) -> None:
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
        )
        await self._jetstream.ensure_stream(config, suits=lambda _: True)
        self._ready = True


async def _all(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """`work(0)` … `work(count - 1)` at once; the first error cancels the rest and is raised itself."""
    tasks = [asyncio.ensure_future(work(index)) for index in range(count)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
