"""One NATS connection that is always made again.

nats-py reconnects by itself after a lost socket, but closes for good when the server refuses it (`-ERR`: credentials
changed, too many connections, …). Then a new client takes over the subscriptions of the old one.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import structlog
from nats.errors import Error, SlowConsumerError

from shared.bus.nats.client import FixedClient
from shared.bus.tasks import end
from shared.errors import Disconnected, InvalidInput

_log = structlog.get_logger("llmos.bus")

RECONNECT_WAIT_S = 0.25
CLOSE_S = 3.0
LOG_EVERY_S = 10.0
"""A connection that stays down is logged this often."""


@dataclass(frozen=True, slots=True)
class Address:
    """Servers and credentials from `nats://user:password@host:4222`, or several of them separated by commas."""

    servers: list[str]
    user: str | None = None
    password: str | None = None
    token: str | None = None

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises `InvalidInput`. A user without a password is a token."""
        servers, user, password = [], None, None
        for part in url.split(","):
            try:
                split = urlsplit(part.strip() if "://" in part else f"nats://{part.strip()}")
                port = split.port or 4222
            except ValueError as error:
                raise InvalidInput(f"the NATS URL is malformed: {error}", param="url") from error
            if not split.hostname or split.scheme not in ("nats", "tls"):
                raise InvalidInput("a NATS URL looks like nats://user:password@host:4222", param="url")
            host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
            servers.append(f"{split.scheme}://{host}:{port}")
            user = unquote(split.username) if split.username else user
            password = unquote(split.password) if split.password else password
        if user and password is None:
            return cls(servers, token=user)
        return cls(servers, user=user, password=password)

    def __str__(self) -> str:
        return ", ".join(self.servers)


class NatsConnection:
    """The client, the callbacks for its losses and returns, and what the log says about it."""

    def __init__(self, url: str, *, name: str) -> None:
        self.address = Address.parse(url)
        self.name = name
        self.client = FixedClient()
        self.on_lost: set[Callable[[], None]] = set()
        self.on_back: set[Callable[[], None]] = set()
        self.on_new_client: Callable[[], None] = lambda: None
        """Called when a new client replaces one that was closed by the server: subscribe again."""
        self.denied: dict[str, float] = {}
        """What the server has refused, in lower case, with the time of the last refusal (monotonic)."""
        self.dropped = 0
        """Messages not published because the connection was down."""
        self._up = asyncio.Event()
        self._closing = False
        self._last_error: Exception | None = None
        self._last_logged = 0.0
        self._revival: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""
        return self._up.is_set() and self.client.is_connected

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    async def open(self, timeout: float) -> None:
        """Connect, trying again and again for `timeout` seconds; raises `Disconnected` then."""
        try:
            async with asyncio.timeout(timeout):
                await self._connect()
        except TimeoutError as error:
            await self.close()
            raise Disconnected(
                f"no NATS server answers at {self.address} after {timeout:g} s ({self._last_error}); "
                "start it, or correct LLMOS_NATS_URL"
            ) from error

    async def up(self) -> None:
        """Wait until the server can be reached."""
        await self._up.wait()

    async def close(self) -> None:
        """Close for good. Idempotent."""
        reachable = self.connected
        self._closing = True
        self._up.clear()
        await end(self._revival)
        if not reachable:
            self._fail_waiting()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.client.close()
        except (OSError, Error, TimeoutError) as error:
            _log.info("bus.closed_unclean", name=self.name, error=str(error) or type(error).__name__)
        self._fail_waiting()

    async def _connect(self) -> None:
        client = self.client
        address = self.address
        try:
            await client.connect(
                servers=address.servers,
                name=self.name,
                user=address.user,
                password=address.password,
                token=address.token,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # seconds; nats-py takes fractions
                connect_timeout=5,
                ping_interval=2,
                max_outstanding_pings=2,
                flush_timeout=2.0,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
            )
        except Error as error:
            raise InvalidInput(f"the NATS URL is malformed: {error}", param="url") from error
        self._last_error = None
        self._up.set()
        _log.info("bus.connected", server=str(address), name=self.name)

    async def _on_error(self, error: Exception) -> None:
        text = str(error)
        if isinstance(error, SlowConsumerError):
            _log.error("bus.slow_consumer", subject=error.subject, consequence="messages were dropped")
        elif "permissions violation" in text:
            self.denied[text.split('"')[1] if '"' in text else text] = time.monotonic()
            _log.error("bus.permission_denied", name=self.name, error=text)
        else:
            if "authorization" not in str(self._last_error).lower():  # says more than the reset that follows it
                self._last_error = error
            if time.monotonic() - self._last_logged >= LOG_EVERY_S:
                self._last_logged = time.monotonic()
                _log.warning(
                    "bus.connection_error",
                    server=str(self.address),
                    error=text or type(error).__name__,
                    retrying=True,
                )

    async def _on_disconnected(self) -> None:
        if not self._up.is_set():
            return
        self._up.clear()
        self._fail_waiting()
        if self._closing:
            return
        self._last_logged = time.monotonic()
        _log.warning("bus.disconnected", server=str(self.address), name=self.name)
        for callback in tuple(self.on_lost):
            callback()

    async def _on_reconnected(self) -> None:
        if self._closing:
            return
        self._up.set()
        _log.info("bus.reconnected", server=str(self.address), name=self.name, dropped=self.dropped)
        self.dropped = 0
        for callback in tuple(self.on_back):
            callback()

    async def _on_closed(self) -> None:
        if not self._closing and (self._revival is None or self._revival.done()):
            self._revival = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        """The server has closed the connection: go on with a new client."""
        _log.warning("bus.closed_by_server", server=str(self.address), error=str(self.client.last_error))
        await asyncio.sleep(RECONNECT_WAIT_S)
        self.client = FixedClient()
        await self._connect()
        self.on_new_client()
        await self._on_reconnected()

    def _fail_waiting(self) -> None:
        """Requests on the wire get no response any more, and what waits to be written must not be sent later.

        Subscriptions are replayed from nats-py's table, so nothing in its write buffer is missed.
        """
        client = self.client
        client._pending.clear()  # noqa: SLF001  # nats-py has no public way to forget what is not sent yet
        client._pending_data_size = 0  # noqa: SLF001
        for waiting in tuple(client._resp_map.values()):  # noqa: SLF001  # or they would wait for their time-out
            if not waiting.done():
                waiting.set_exception(Disconnected("the bus connection was lost before the response came; try again"))
