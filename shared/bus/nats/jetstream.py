"""JetStream calls with our errors, retried while the server starts again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError
from nats.js.manager import JetStreamManager

from shared.bus.nats.connection import NatsConnection
from shared.bus.tasks import cancellable
from shared.errors import DeadlineExceeded, Disconnected, LlmosError, PayloadTooLarge, PermissionDenied, Unavailable

RECOVERY_S = 5.0
"""After a restart the server serves its streams shortly after it accepts connections: calls are retried this long."""
CALL_S = 5.0
STREAM_EXISTS = 10058
"""JetStream's error code of "stream name already in use with a different configuration"."""
WRONG_LAST_SEQUENCE = (10071, 10164)

Result = TypeVar("Result")


class JetStream:
    """JetStream on the connection's client of the moment.

    Args:
        connection: To the server.
        owner: Whether streams and consumers are made on first use. Only the owner of the bus may make any; all
            others find what it has made (`shared.bus.access`).
        leases_in_memory: Whether the owner makes buckets with a time to live in the server's memory: a disk that
            takes no more makes no holder look dead then, and the owner must make them again when the server restarts.
    """

    def __init__(self, connection: NatsConnection, *, owner: bool, leases_in_memory: bool = False) -> None:
        self.connection = connection
        self.owner = owner
        self.leases_in_memory = leases_in_memory

    @property
    def context(self) -> JetStreamContext:
        """For publishing into streams."""
        return self.connection.client.jetstream(timeout=CALL_S)

    @property
    def manager(self) -> JetStreamManager:
        """For everything about streams and consumers."""
        return self.connection.client.jsm(timeout=CALL_S)

    async def call(
        self, work: Callable[[], Awaitable[Result]], *, ensure: Callable[[bool], Awaitable[None]] | None = None
    ) -> Result:
        """`work()` with our errors; APIErrors other than "not there" and "not now" pass through.

        `ensure` makes what `work` needs, as the owner; its argument is true when the server seems to have lost it.
        Raises `Disconnected`, `DeadlineExceeded`, `PayloadTooLarge`, `PermissionDenied`, or `Unavailable` after
        `RECOVERY_S`.
        """
        deadline = time.monotonic() + RECOVERY_S
        wait = 0.02
        lost = False
        while True:
            self.check_connected()
            started = time.monotonic()
            try:
                if ensure is not None and self.owner:
                    await cancellable(ensure(lost))
                return await cancellable(work())
            except (NoStreamResponseError, ServiceUnavailableError, nats.errors.NoRespondersError) as error:
                if time.monotonic() + wait > deadline:
                    raise Unavailable(
                        f"JetStream does not respond: {error}; if it is enabled in nats-server, its streams are"
                        " missing: 'llmos bus init' makes them"
                    ) from error
                lost = True
            except nats.errors.MaxPayloadError as error:
                raise PayloadTooLarge("more bytes than one record of the bus may have") from error
            except (TimeoutError, nats.errors.TimeoutError) as error:
                if refused := [subject for subject, at in self.connection.denied.items() if at >= started]:
                    raise PermissionDenied(
                        f"the bus does not let {self.connection.name} use {refused[0]}: check its NATS credentials"
                    ) from error
                raise DeadlineExceeded(f"JetStream did not respond within {CALL_S:g} s") from error
            except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
                raise Disconnected("the bus connection is down; it is being made again") from error
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.5)

    def check_connected(self) -> None:
        """Raise `Disconnected` while the connection is down."""
        if not self.connection.connected:
            raise Disconnected("the bus connection is down; it is being made again")

    async def ensure_stream(
        self, config: StreamConfig, *, suits: Callable[[StreamConfig], bool], may_be_emptied: bool = False
    ) -> StreamInfo:
        """The stream, made if it is not there; changed to `config` unless its own configuration `suits`.

        The server can't move a stream between disk and memory: one that `may_be_emptied` is made again instead.
        Safe when several processes do it at once.
        """
        assert config.name is not None
        try:
            info = await self.manager.stream_info(config.name)
        except NotFoundError:
            try:
                return await self.manager.add_stream(config)
            except APIError as error:
                if error.err_code != STREAM_EXISTS:
                    raise
            info = await self.manager.stream_info(config.name)
        if may_be_emptied and info.config.storage != config.storage:
            await self.manager.delete_stream(config.name)
            return await self.manager.add_stream(config)
        if suits(info.config):
            return info
        return await self.manager.update_stream(config)


async def nothing() -> None:
    """For making something without using it yet."""


def unexpected(what: str, error: APIError) -> LlmosError:
    """An error of JetStream that no caller handles, as one of ours that names the request."""
    return Unavailable(f"{what} was refused by JetStream: {error.description} (code {error.err_code})")
