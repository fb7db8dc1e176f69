"""uvicorn's server with our protocol, in the service's event loop: no signal handlers, a bounded drain."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import cast

import structlog
import uvicorn
from starlette.types import ASGIApp

from services.gateway.http.http1.connection import Connection
from services.gateway.limits.networks import NOWHERE, Networks
from services.gateway.limits.places import Places
from services.gateway.limits.time_limits import TimeLimits
from shared.errors import Conflict, InvalidInput

_log = structlog.get_logger("llmos.gateway")

POLL_S = 0.01
_FAREWELL_S = 2.0
"""The part of the drain timeout, at most, for ending requests that did not finish in time."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The service handles signals itself."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        Conflict: The port is in use.
        InvalidInput: The address can't be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(f"cannot listen on {host!r} (LLMOS_GATEWAY_HOST): {error.strerror}") from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} on {host} is in use by another program: stop it, or set LLMOS_GATEWAY_PORT"
            ) from error
        raise InvalidInput(
            f"cannot listen on {host}:{port} (LLMOS_GATEWAY_HOST, LLMOS_GATEWAY_PORT): {error.strerror}"
        ) from error
    listening.setblocking(False)
    return listening


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listening: socket.socket,
    drain_timeout: float,
    limits: TimeLimits,
    places: Places,
    *,
    proxies: Networks = NOWHERE,
) -> AsyncIterator[str]:
    """Serve `app` while the block runs; yields the URL.

    `X-Forwarded-For` and `X-Forwarded-Proto` are believed from `proxies` only. uvicorn would believe every process on
    this machine, and so each client of a tunnel that ends here.

    On leaving: no new connections, and idle ones are closed at once; requests have most of `drain_timeout` seconds to
    finish, after which streams end with an `error` event.
    """
    protocol = cast("type[asyncio.Protocol]", partial(Connection, limits=limits, places=places))
    config = uvicorn.Config(
        app,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=bool(proxies.names),
        forwarded_allow_ips=list(proxies.names),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="http-server")
    while not server.started and not task.done():  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(POLL_S)
    if task.done():
        task.result()
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _log.info("server.listening", url=url)
    try:
        yield url
    finally:
        server.should_exit = True
        await _drain(server, task, drain_timeout)


async def _drain(server: uvicorn.Server, task: "asyncio.Task[None]", timeout: float) -> None:
    """Wait for open requests, then cancel them early enough for error events and cancellations to be sent."""
    farewell = min(_FAREWELL_S, timeout / 4)
    _, unfinished = await asyncio.wait({task}, timeout=timeout - farewell)
    if not unfinished:
        return
    requests = set(server.server_state.tasks)
    _log.warning("server.requests_cancelled", requests=len(requests), drain_timeout_s=timeout)
    for request in requests:
        request.cancel()
    server.force_exit = True
    await asyncio.wait({task, *requests}, timeout=farewell)
