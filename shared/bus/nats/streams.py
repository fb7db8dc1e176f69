"""Event streams over JetStream."""

import asyncio
import contextlib
import contextvars
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import DiscardPolicy, Header, StreamConfig
from nats.js.errors import APIError, NotFoundError

from shared.bus.handlers import run_handler
from shared.bus.names import check_bucket, check_subject
from shared.bus.nats.jetstream import CALL_S, WRONG_LAST_SEQUENCE, JetStream, nothing, unexpected
from shared.bus.nats.pull import RETRY_S, PullConsumer, settled
from shared.bus.nats.stored import NONE, SUBJECT_HEADER, StoredMessages, sequence
from shared.bus.port import MAX_ATTEMPTS, MAX_RECORD, Handler, Message
from shared.bus.tasks import end
from shared.errors import Conflict, LlmosError, PayloadTooLarge, StorageFull, Unavailable

_log = structlog.get_logger("llmos.bus")

POLL_S = 30.0

Read = Callable[[str, bytes, Mapping[str, str]], Awaitable[Message]]
"""Makes a message from subject, data and headers; fetches what travels as an object reference."""


class Consumption:
    """One durable consumer at work; a `Subscription`."""

    def __init__(
        self, consumer: PullConsumer, read: Read, handler: Handler, alive: set["Consumption"], durable: str
    ) -> None:
        self._consumer = consumer
        self._read = read
        self._handler = handler
        self._alive = alive
        self._durable = durable
        self._ending = asyncio.Event()
        self._handling: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, context: contextvars.Context) -> None:
        """Begin to pull."""
        self._alive.add(self)
        self._task = asyncio.get_running_loop().create_task(self._follow(context), context=context.copy())

    async def unsubscribe(self) -> None:
        """Take nothing new, and wait for the handler that runs."""
        self._alive.discard(self)
        self._ending.set()
        if self._handling is not None and self._handling is not asyncio.current_task():
            await asyncio.wait([self._handling])
        await self._stop()

    def cancel(self) -> int:
        """Cancel the running handler; returns how many were cancelled."""
        self._ending.set()
        if self._handling is None or self._handling.done():
            return 0
        self._handling.cancel()
        return 1

    async def _stop(self) -> None:
        if self._task is not asyncio.current_task():
            await end(self._task)

    async def _follow(self, context: contextvars.Context) -> None:
        connection = self._consumer.jetstream.connection
        while not self._ending.is_set():
            await connection.up()
            try:
                message = await self._consumer.pull(POLL_S)
                if message is None:
                    continue
                self._handling = asyncio.get_running_loop().create_task(self._handle(message), context=context.copy())
                await asyncio.wait([self._handling])
            except (Error, LlmosError, TimeoutError) as error:
                _log.warning("bus.consumer_interrupted", durable=self._durable, error=str(error), retrying=True)
                await asyncio.sleep(RETRY_S)

    async def _handle(self, raw: Msg) -> None:
        try:
            message = await self._read(raw.subject, raw.data, raw.headers or {})
        except LlmosError as error:
            _log.exception("bus.event_unreadable", durable=self._durable, subject=raw.subject)
            good, gone = False, isinstance(error, Unavailable)
        else:
            pending = replace(message, pending=raw.metadata.num_pending)
            good, gone = await run_handler(self._handler, pending), False
        attempt = raw.metadata.num_delivered
        with contextlib.suppress(Error):  # not acknowledged: delivered again after `nats_pull.ACK_WAIT_S`
            if good:
                await raw.ack()
            elif gone or attempt >= MAX_ATTEMPTS:
                _log.error("bus.event_given_up", durable=self._durable, subject=raw.subject, attempts=attempt)
                await raw.term()
            else:
                await raw.nak(delay=RETRY_S)


class NatsEventStream:
    """A durable stream with limits, oldest discarded first."""

    def __init__(
        self,
        jetstream: JetStream,
        config: StreamConfig,
        read: Read,
        context: contextvars.Context,
        alive: set[Consumption],
        *,
        why_no_changes: Callable[[], str | None],
    ) -> None:
        assert config.name is not None
        check_bucket(config.name)
        self._jetstream = jetstream
        self._name = config.name
        self._config = config
        self._read = read
        self._context = context
        self._alive = alive
        self._why_no_changes = why_no_changes
        self._ready = False

    async def consume(self, handler: Handler, *, durable: str) -> Consumption:
        """Every message from where `durable` stopped last; acknowledged when the handler returns.

        One at a time. A handler that raises is given the message again, `MAX_ATTEMPTS` times in all.
        """
        check_bucket(durable)
        consumer = PullConsumer(self._jetstream, self._config, durable)
        try:
            await self._jetstream.call(nothing, ensure=consumer.ensure)
        except APIError as error:
            raise unexpected(f"consuming {self._name}", error) from error
        consumption = Consumption(consumer, self._read, handler, self._alive, durable)
        consumption.start(self._context)
        return consumption

    async def last(self, count: int, *, before: int | None = None) -> list[tuple[int, Message]]:
        """The newest `count` messages (of those before a position), oldest first, each with its position."""
        try:
            end = await self._end() if before is None else before - 1
            span = count
            while True:
                begin = max(0, end - span)
                found = [
                    raw async for raw in self._stored(">", after=begin, limit=end - begin) if sequence(raw) <= end
                ]
                if len(found) >= count or begin == 0:
                    break
                span *= 8  # messages between were removed
        except APIError as error:
            raise unexpected(f"reading {self._name}", error) from error
        return [await self._message(raw) for raw in found[len(found) - min(count, len(found)) :]]

    async def after(self, position: int, subject: str, *, limit: int) -> list[tuple[int, Message]]:
        """The first `limit` messages on `subject` behind `position`, each with its own; 0: from the beginning."""
        check_subject(subject, wildcards=True)
        try:
            return [await self._message(raw) async for raw in self._stored(subject, after=position, limit=limit)]
        except APIError as error:
            raise unexpected(f"reading {self._name}", error) from error

    async def newest(self, subject: str) -> tuple[int, Message] | None:
        """The newest message on exactly this subject, with its position; None: there is none."""
        check_subject(subject)
        try:
            raw = await self._jetstream.call(
                partial(self._jetstream.manager.get_msg, self._name, subject=subject, direct=True), ensure=self.ensure
            )
        except NotFoundError:
            return None
        except APIError as error:
            raise unexpected(f"reading {self._name}", error) from error
        assert raw.seq is not None
        return raw.seq, await self._read(raw.subject or "", raw.data or b"", raw.headers or {})

    async def append(self, subject: str, data: bytes, *, after: int, removes: bool = False) -> int:
        """Store a message; its position. See `EventStream.append`."""
        check_subject(subject)
        if len(data) > MAX_RECORD:
            raise PayloadTooLarge(f"an event has {len(data)} bytes; one may have at most {MAX_RECORD}")
        if not removes and (why := self._why_no_changes()) is not None:
            raise StorageFull(f"nothing was changed: {why}")
        headers: dict[str, str] = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(after)}
        try:
            stored = await self._jetstream.call(
                lambda: self._jetstream.context.publish(subject, data, stream=self._name, headers=dict(headers)),
                ensure=self.ensure,
            )
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise Conflict(f"{subject} has newer messages than that at {after}") from error
            raise unexpected(f"writing to {self._name}", error) from error
        return stored.seq

    async def make(self, durables: Iterable[str] = ()) -> None:
        """Make the stream and its durable consumers, or change them to what they should be; as the owner."""
        await self._jetstream.call(nothing, ensure=self.ensure)
        for durable in durables:
            await self._jetstream.call(nothing, ensure=PullConsumer(self._jetstream, self._config, durable).ensure)

    async def ensure(self, lost: bool = False) -> None:
        """Make the stream if it is not there."""
        if self._ready and not lost:
            return
        await self._jetstream.ensure_stream(self._config, suits=lambda found: settled(found, self._config))
        self._ready = True

    async def _stored(self, subject: str, *, after: int, limit: int) -> AsyncIterator[Msg]:
        """At most `limit` messages behind a position."""
        if limit < 1:
            return
        left = limit
        async for raw in StoredMessages(self._jetstream, self._name, subject, self.ensure, after=after, page=limit):
            yield raw
            left -= 1
            if not left:
                return

    async def _end(self) -> int:
        """The position of the newest message; 0: there is none. Only the owner may ask for the stream's state."""
        request = f"$JS.API.DIRECT.GET.{self._name}"
        body = json.dumps({"last_by_subj": ">"}).encode()
        raw = await self._jetstream.call(
            lambda: self._jetstream.connection.client.request(request, body, timeout=CALL_S), ensure=self.ensure
        )
        headers = raw.headers or {}
        status = headers.get(Header.STATUS)
        if status is None:
            return sequence(raw)
        if status == NONE:
            return 0
        raise Unavailable(f"{request} was refused by JetStream: {headers.get(Header.DESCRIPTION)}")

    async def _message(self, raw: Msg) -> tuple[int, Message]:
        headers = raw.headers or {}
        return sequence(raw), await self._read(headers[SUBJECT_HEADER], raw.data, headers)


def event_stream_config(name: str, subjects: list[str], *, max_bytes: int, max_age: float) -> StreamConfig:
    """The configuration of an event stream; `max_age` in seconds."""
    for subject in subjects:
        check_subject(subject, wildcards=True)
    return StreamConfig(
        name=name,
        subjects=sorted(subjects),
        max_bytes=max_bytes,
        max_age=max_age,
        discard=DiscardPolicy.OLD,
        allow_direct=True,
    )
