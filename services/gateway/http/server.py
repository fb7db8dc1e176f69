"""uvicorn inside our own event loop: no signal handlers, a clear error for a port in use, a drain with a limit."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from shared.errors import Conflict, InvalidInput

log = structlog.get_logger("llmos.gateway")

POLL_S = 0.01
_AFTER_CANCEL_S = 2.0


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the service's life cycle."""
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
async def serving(app: ASGIApp, listening: socket.socket, drain_timeout: float) -> AsyncIterator[str]:
    """Serve `app` while the block runs; yields the URL.

    On leaving: no new connections, and `drain_timeout` seconds for those that are open, after which streams end with
    an `error` event.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, int(drain_timeout)),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="http-server")
    while not server.started and not task.done():  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(POLL_S)
    if task.done():
        task.result()
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("listening", url=url)
    try:
        yield url
    finally:
        server.should_exit = True
        await asyncio.wait({task})
        leftover = {job for job in server.server_state.tasks if not job.done()}
        if leftover:
            await asyncio.wait(leftover, timeout=_AFTER_CANCEL_S)
