"""Work queues and event streams over JetStream pull consumers.

Each pull has an inbox of its own, so a lost connection ends it at once and no message waits in an inbox that nobody
reads.
"""

import asyncio
import contextlib
import contextvars
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, Header, RetentionPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from shared.bus.handlers import run_handler
from shared.bus.names import check_bucket, check_subject
from shared.bus.nats_jetstream import JetStream, unexpected
from shared.bus.port import MAX_RECORD, Handler, Job, Message
from shared.bus.tasks import end
from shared.errors import Disconnected, LlmosError, PayloadTooLarge, Unavailable

_log = structlog.get_logger("llmos.bus")

ACK_WAIT_S = 30.0
"""A job or event not acknowledged for this long is delivered again."""
MAX_ATTEMPTS = 5
"""An event whose handler fails this often is given up, and logged."""
WORKERS = "workers"
POLL_S = 30.0
RETRY_S = 0.5


class PullConsumer:
    """A durable pull consumer of one stream."""

    def __init__(self, jetstream: JetStream, stream: StreamConfig, consumer: ConsumerConfig) -> None:
        assert stream.name is not None
        assert consumer.durable_name is not None
        self.jetstream = jetstream
        self.stream = stream
        self._consumer = consumer
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{consumer.durable_name}"
        self._ready = False

    async def ensure(self, lost: bool) -> None:
        """Make stream and consumer if they are not there."""
        if self._ready and not lost:
            return
        await self.jetstream.ensure_stream(self.stream, keep=lambda found: _settled(found, self.stream))
        assert self.stream.name is not None
        await self.jetstream.manager.add_consumer(self.stream.name, self._consumer)
        self._ready = True

    async def pull(self, timeout: float) -> Msg | None:
        """The next message, or None after `timeout` seconds; raises as `JetStream.call`."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            message = await self.jetstream.call(partial(self._ask, left), ensure=self.ensure)
            status = (message.headers or {}).get(Header.STATUS)
            if status is None:
                return message
            if status != "408":
                # The consumer was deleted, or its server goes away: it is made again.
                _log.info("bus.pull_interrupted", stream=self.stream.name, status=status)
                self._ready = False
                await asyncio.sleep(min(RETRY_S, max(0.0, deadline - time.monotonic())))
        return None

    async def _ask(self, expires: float) -> Msg:
        """One pull: a message, or a status. A job that arrives when nobody waits any more is given back at once."""
        connection = self.jetstream.connection
        client = connection.client
        arrived: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            if not arrived.done():
                arrived.set_result(message)
            elif Header.STATUS not in (message.headers or {}):
                await message.nak()

        def lost() -> None:
            if not arrived.done():
                arrived.set_exception(Disconnected("the bus connection was lost while waiting; try again"))

        inbox = client.new_inbox()
        body = json.dumps({"batch": 1, "expires": int(expires * 1e9)}).encode()
        subscription = await client.subscribe(inbox, cb=receive)
        connection.on_lost.add(lost)
        try:
            await client.publish(self._next, body, reply=inbox)
            async with asyncio.timeout(expires + 2.0):
                message = await asyncio.shield(arrived)
        except (asyncio.CancelledError, TimeoutError):
            if arrived.done() and not arrived.exception():
                await receive(arrived.result())
            arrived.cancel()
            raise
        finally:
            connection.on_lost.discard(lost)
            with contextlib.suppress(Error):
                await subscription.unsubscribe()
        if (message.headers or {}).get(Header.STATUS) == "503":
            raise ServiceUnavailableError(code=503, description=f"nobody answers on {self._next}")
        return message


class NatsWorkQueue:
    """A durable queue: each job goes to one worker, at least once."""

    def __init__(self, jetstream: JetStream, stream: str, subject: str) -> None:
        check_bucket(stream)
        check_subject(subject)
        self._jetstream = jetstream
        self._subject = subject
        self._consumer = PullConsumer(
            jetstream,
            StreamConfig(
                name=stream, subjects=[subject], retention=RetentionPolicy.WORK_QUEUE, duplicate_window=120.0
            ),
            ConsumerConfig(
                durable_name=WORKERS, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=10_000
            ),
        )

    async def put(self, data: bytes, *, message_id: str | None = None) -> None:
        """Queue a job; the same `message_id` within two minutes is queued once."""
        if len(data) > MAX_RECORD:
            raise PayloadTooLarge(
                f"a job of {len(data)} bytes is larger than {MAX_RECORD}; put its data into the artifact store"
            )
        try:
            await self._jetstream.call(
                lambda: self._jetstream.context.publish(
                    self._subject, data, headers={Header.MSG_ID: message_id} if message_id else None
                ),
                ensure=self._consumer.ensure,
            )
        except APIError as error:
            raise unexpected("a job", error) from error

    async def take(self, timeout: float) -> Job | None:
        """The next job, or None after `timeout` seconds."""
        try:
            message = await self._consumer.pull(timeout)
        except APIError as error:
            raise unexpected("taking a job", error) from error
        if message is None:
            return None
        return Job(
            data=message.data,
            attempt=message.metadata.num_delivered,
            ack=_confirmed(message),
            nack=lambda: _sent(message.nak()),
            in_progress=lambda: _sent(message.in_progress()),
        )


def _confirmed(message: Msg) -> Callable[[], Awaitable[None]]:
    async def ack() -> None:
        try:
            await message.ack_sync(timeout=5.0)
        except (Error, TimeoutError) as error:
            raise Disconnected("the server did not confirm that the job is done: it may be done again") from error

    return ack


async def _sent(work: Awaitable[None]) -> None:
    try:
        await work
    except Error as error:
        raise Disconnected("the bus connection is down; it is being made again") from error


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
        """Cancel the handler that runs, and answer how many were cancelled."""
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
            good, gone = await run_handler(self._handler, message), False
        attempt = raw.metadata.num_delivered
        with contextlib.suppress(Error):  # not acknowledged: delivered again after ACK_WAIT_S
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
    ) -> None:
        assert config.name is not None
        check_bucket(config.name)
        self._jetstream = jetstream
        self._name = config.name
        self._config = config
        self._read = read
        self._context = context
        self._alive = alive
        self._ready = False

    async def consume(self, handler: Handler, *, durable: str) -> Consumption:
        """Every message from where `durable` stopped last; acknowledged when the handler returns.

        One at a time. A handler that raises is given the message again, `MAX_ATTEMPTS` times in all.
        """
        check_bucket(durable)
        consumer = PullConsumer(
            self._jetstream,
            self._config,
            ConsumerConfig(durable_name=durable, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S),
        )
        try:
            await self._jetstream.call(_nothing, ensure=consumer.ensure)
        except APIError as error:
            raise unexpected(f"consuming {self._name}", error) from error
        consumption = Consumption(consumer, self._read, handler, self._alive, durable)
        consumption.start(self._context)
        return consumption

    async def last(self, count: int) -> list[Message]:
        """The newest `count` messages, oldest first."""
        try:
            state = (
                await self._jetstream.call(
                    lambda: self._jetstream.manager.stream_info(self._name), ensure=self.ensure
                )
            ).state
            found: list[Message] = []
            sequence = state.last_seq
            while len(found) < count and sequence >= max(state.first_seq, 1):
                with contextlib.suppress(NotFoundError):  # discarded since
                    found.append(await self._get(sequence))
                sequence -= 1
        except APIError as error:
            raise unexpected(f"reading {self._name}", error) from error
        return found[::-1]

    async def ensure(self, lost: bool = False) -> None:
        """Make the stream if it is not there."""
        if self._ready and not lost:
            return
        await self._jetstream.ensure_stream(self._config, keep=lambda found: _settled(found, self._config))
        self._ready = True

    async def _get(self, sequence: int) -> Message:
        raw = await self._jetstream.call(
            lambda: self._jetstream.manager.get_msg(self._name, seq=sequence, direct=True)
        )
        return await self._read(raw.subject or "", raw.data or b"", raw.headers or {})


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


def _settled(found: StreamConfig, wanted: StreamConfig) -> bool:
    """Whether the stream as it is serves as well as the one that is wanted."""
    return (
        sorted(found.subjects or []) == sorted(wanted.subjects or [])
        and (found.max_bytes or -1) == (wanted.max_bytes or -1)
        and abs((found.max_age or 0.0) - (wanted.max_age or 0.0)) < 1e-3
    )


async def _nothing() -> None:
    """For making something without using it yet."""
