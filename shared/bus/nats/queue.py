"""Work queues over JetStream."""

from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, Header, RetentionPolicy, StreamConfig
from nats.js.errors import APIError

from shared.bus.names import check_bucket, check_subject
from shared.bus.nats.jetstream import JetStream, unexpected
from shared.bus.nats.pull import ACK_WAIT_S, PullConsumer
from shared.bus.port import MAX_RECORD, Job
from shared.errors import Disconnected, PayloadTooLarge

WORKERS = "workers"
"""The durable consumer that all workers of a queue share."""


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
