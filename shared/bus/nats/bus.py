"""The bus over NATS."""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.errors import (
    BadHeaderError,
    BadSubjectError,
    ConnectionClosedError,
    ConnectionDrainingError,
    Error,
    MaxPayloadError,
    NoRespondersError,
    OutboundBufferLimitError,
)
from nats.errors import TimeoutError as NatsTimeout

from shared.bus.handlers import attach_trace, with_trace
from shared.bus.names import REPLY_TOPIC, check_subject, topic
from shared.bus.nats.budget import FREE, ByteBudgets
from shared.bus.nats.client import Receiver
from shared.bus.nats.connection import NatsConnection
from shared.bus.nats.jetstream import JetStream, nothing
from shared.bus.nats.kv import NatsKeyValue
from shared.bus.nats.objects import OBJECT_HEADER, OBJECT_TTL_S, REPLY_TTL_S, NatsObjects, ObjectRef
from shared.bus.nats.streams import Consumption, NatsEventStream, event_stream_config
from shared.bus.nats.subscription import NatsSubscription, OrderedReceiver
from shared.bus.port import OBJECT_THRESHOLD, RESPOND_CONCURRENCY, Message, Receive, Responder
from shared.bus.replies import Reply, check_size, error_reply, reply_of, unwrap
from shared.bus.tasks import cancellable
from shared.deadlines import HANDLERS_DRAIN_S
from shared.errors import (
    DeadlineExceeded,
    Disconnected,
    Internal,
    InvalidInput,
    LlmosError,
    NoResponders,
    PayloadTooLarge,
    PermissionDenied,
)

_log = structlog.get_logger("llmos.bus")


class NatsBus:
    """The port over one NATS connection; made by `shared.bus.connect.connect`.

    Args:
        url: The server, with user and password.
        name: Of the connection, in the server's logs.
        owner: Whether buckets, streams and consumers are made on first use; only the owner of the bus may.
        leases_in_memory: Where the owner makes leases, see `JetStream`.
        why_no_changes: Why records can't be written now; None: they can.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        owner: bool = False,
        leases_in_memory: bool = False,
        why_no_changes: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._connection = NatsConnection(url, name=name)
        self._connection.on_new_client = self._subscribe_again
        self._jetstream = JetStream(self._connection, owner=owner, leases_in_memory=leases_in_memory)
        self._why_no_changes = why_no_changes
        self._objects = NatsObjects(self._jetstream, self._connection.address.user or "anyone")
        self._budgets = ByteBudgets()
        self._subscriptions: set[NatsSubscription] = set()
        self._consumptions: set[Consumption] = set()
        self._buckets: dict[tuple[str, float | None, int | None], NatsKeyValue] = {}
        self._context = contextvars.copy_context()
        self._background: set[asyncio.Task[None]] = set()
        self._drained: asyncio.Task[None] | None = None

    async def open(self, timeout: float) -> None:
        """Connect, trying for `timeout` seconds; raises `Disconnected` then."""
        await self._connection.open(timeout)

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""
        return self._connection.connected

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Fire and forget; dropped while the connection is down. Raises `PayloadTooLarge` and `InvalidInput`."""
        check_size(len(data))
        check_subject(subject)
        if not self.connected:
            self._connection.dropped += 1
            return
        sent = dict(headers) if headers else None
        try:
            if len(data) > OBJECT_THRESHOLD:
                sent = {**(sent or {}), OBJECT_HEADER: str(await self._objects.put(data, topic(subject)))}
                data = b""
            await self._send(subject, data, sent)
        except Disconnected:
            self._connection.dropped += 1

    def try_publish(self, subject: str, data: bytes) -> bool:
        """See `Bus.try_publish`. Raises `InvalidInput`."""
        check_subject(subject)
        if len(data) > OBJECT_THRESHOLD or not self.connected:
            return False
        return self._connection.client.publish_now(subject, data)

    async def subscribe(self, subject: str, receive: Receive, *, queue: str | None = None) -> NatsSubscription:
        """Call `receive` for each message, in order. Active at the server on return.

        While the connection is down it waits. Raises `PermissionDenied` when the server refuses the subject.
        """
        ordered = OrderedReceiver(receive, self._read_logged)
        return await self._subscribe(subject, ordered.receive_later, queue, 1, ordered)

    async def respond(self, subject: str, responder: Responder, *, queue: str | None = None) -> NatsSubscription:
        """Respond to requests on `subject`. Active at the server on return; otherwise as `subscribe`.

        A plain subscription rather than a `nats.micro` endpoint: that one awaits its handler inside the subscription,
        so it would handle one request at a time, or count neither time nor errors of what it hands off.
        """

        async def run(raw: Msg) -> None:
            try:
                message = await self._read(raw.subject, raw.data, raw.headers or {})
            except LlmosError as error:
                reply = error_reply(error)
            else:
                attach_trace(message)
                reply = await reply_of(responder, message)
            if raw.reply:
                await self._reply(raw, reply)

        return await self._subscribe(subject, run, queue, RESPOND_CONCURRENCY)

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The response; raises the responder's error, `NoResponders`, `Disconnected` or `DeadlineExceeded`."""
        check_size(len(data))
        check_subject(subject)
        sent = with_trace(dict(headers or {}))
        started = time.monotonic()
        try:
            if len(data) <= FREE:
                return await self._ask(subject, data, sent, timeout)
            if len(data) <= OBJECT_THRESHOLD:
                async with asyncio.timeout(timeout), self._budgets.holding(subject, len(data)):
                    return await self._ask(subject, data, sent, timeout)
            async with asyncio.timeout(timeout):
                ref = await self._objects.put(data, topic(subject))
                try:
                    return await self._ask(subject, b"", {**sent, OBJECT_HEADER: str(ref)}, timeout)
                finally:
                    self._remove_later(ref)
        except TimeoutError as error:
            if self._connection.denied.get(subject.lower(), 0.0) >= started:
                raise PermissionDenied(
                    f"the bus does not let {self._connection.name} ask {subject}: check its NATS credentials"
                ) from error
            raise DeadlineExceeded(f"no response from {subject} within {timeout:g} s") from error

    def kv(self, bucket: str, *, ttl: float | None = None, max_bytes: int | None = None) -> NatsKeyValue:
        """A bucket; entries not rewritten for `ttl` seconds expire (None: as the bucket was made)."""
        made = NatsKeyValue(self._jetstream, bucket, ttl, max_bytes, self._why_no_changes)
        return self._buckets.setdefault((bucket, ttl, max_bytes), made)

    def stream(self, name: str, subjects: list[str], *, max_bytes: int, max_age: float) -> NatsEventStream:
        """A durable stream."""
        config = event_stream_config(name, subjects, max_bytes=max_bytes, max_age=max_age)
        return NatsEventStream(
            self._jetstream,
            config,
            self._read,
            self._context,
            self._consumptions,
            why_no_changes=self._why_no_changes,
        )

    async def make_object_store(self) -> None:
        """Make the stream of large payloads, as the owner."""
        await self._jetstream.call(nothing, ensure=self._objects.ensure)

    async def drain(self) -> None:
        """Unsubscribe everything, let handlers finish (for `HANDLERS_DRAIN_S`), flush, close. Idempotent."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_task(self._drain())
        await asyncio.shield(self._drained)

    async def _drain(self) -> None:
        parts: list[NatsSubscription | Consumption] = [*self._subscriptions, *self._consumptions]
        ending = [asyncio.ensure_future(part.unsubscribe()) for part in parts]
        ending += self._background
        if ending:
            _, late = await asyncio.wait(ending, timeout=HANDLERS_DRAIN_S)
            if late:
                cancelled = sum(part.cancel() for part in parts)
                _log.warning("bus.drain_incomplete", seconds=HANDLERS_DRAIN_S, handlers_cancelled=cancelled)
                _, stuck = await asyncio.wait(late, timeout=1.0)
                for task in stuck:
                    task.cancel()
        if self.connected:
            with contextlib.suppress(Error, TimeoutError):
                await self._connection.client.flush(timeout=2)
        await self._connection.close()

    async def _subscribe(
        self,
        subject: str,
        run: Callable[[Msg], Coroutine[Any, Any, None]],
        queue: str | None,
        concurrency: int,
        receiver: Receiver | None = None,
    ) -> NatsSubscription:
        check_subject(subject, wildcards=True)
        if self._connection.closing:
            raise Disconnected("the bus connection is closed")
        subscription = NatsSubscription(
            self._connection,
            subject,
            queue,
            run,
            concurrency=concurrency,
            context=self._context,
            forget=self._subscriptions.discard,
            receiver=receiver,
        )
        self._subscriptions.add(subscription)
        try:
            await subscription.activate()
        except BaseException:
            await subscription.unsubscribe()
            raise
        return subscription

    async def _ask(self, subject: str, data: bytes, headers: dict[str, str], timeout: float) -> bytes:
        if not self.connected:
            raise Disconnected("the bus connection is down; it is being made again")
        try:
            asking = self._connection.client.request(subject, data, timeout=timeout, headers=headers or None)
            raw = await cancellable(asking)
        except NoRespondersError as error:
            raise NoResponders(f"no process responds on {subject} now") from error
        except NatsTimeout as error:
            raise TimeoutError from error
        except Error as error:
            raise _translated(error) from error
        reply = raw.data
        if raw.headers and OBJECT_HEADER in raw.headers:
            reply = await self._objects.get(ObjectRef.parse(raw.headers[OBJECT_HEADER]))
        return unwrap(reply, raw.headers)

    async def _reply(self, raw: Msg, reply: Reply) -> None:
        data, headers = reply.data, dict(reply.headers)
        try:
            if len(data) > OBJECT_THRESHOLD:
                headers[OBJECT_HEADER] = str(await self._objects.put(data, REPLY_TOPIC, ttl=REPLY_TTL_S))
                data = b""
        except LlmosError as error:
            _log.exception("bus.reply_too_large_to_send", subject=raw.subject, bytes=len(data))
            data, headers = error_reply(error).data, dict(error_reply(error).headers)
        try:
            await self._send(raw.reply, data, headers or None)
        except Disconnected:
            _log.warning("bus.reply_lost", subject=raw.subject, reason="the connection is down")

    async def _send(self, subject: str, data: bytes, headers: dict[str, str] | None) -> None:
        try:
            await self._connection.client.publish(subject, data, headers=headers)
        except Error as error:
            raise _translated(error) from error

    async def _read(self, subject: str, data: bytes, headers: Mapping[str, str]) -> Message:
        if OBJECT_HEADER not in headers:
            return Message(subject, data, headers)
        ref = ObjectRef.parse(headers[OBJECT_HEADER])
        rest = {name: value for name, value in headers.items() if name != OBJECT_HEADER}
        return Message(subject, await self._objects.get(ref), rest)

    async def _read_logged(self, raw: Msg) -> Message | None:
        try:
            return await self._read(raw.subject, raw.data, raw.headers or {})
        except LlmosError:
            _log.exception("bus.message_unreadable", subject=raw.subject)
            return None

    def _remove_later(self, ref: ObjectRef) -> None:
        async def remove() -> None:
            try:
                await self._objects.remove(ref)
            except LlmosError as error:
                _log.debug("bus.object_left", error=str(error), removed_in_s=OBJECT_TTL_S)

        self._in_background(remove())

    def _subscribe_again(self) -> None:
        async def attach(subscription: NatsSubscription) -> None:
            await subscription.attach()

        for subscription in self._subscriptions:
            self._in_background(attach(subscription))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _translated(error: Error) -> LlmosError:
    if isinstance(error, MaxPayloadError):
        return PayloadTooLarge("the message and its headers are larger than the NATS server takes")
    if isinstance(error, BadSubjectError | BadHeaderError):
        return InvalidInput(f"not a valid subject or header: {error}")
    if isinstance(error, ConnectionClosedError | ConnectionDrainingError | OutboundBufferLimitError):
        return Disconnected("the bus connection is down; it is being made again")
    return Internal(f"the NATS client failed: {error}")
