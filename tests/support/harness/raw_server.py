"""The gateway's HTTP server with operations that show what was read, for clients of raw bytes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import uvloop
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.http.app import make_app
from services.gateway.http.body import read_body, unless_gone
from services.gateway.http.operation import Operation
from services.gateway.http.responses import json_response
from services.gateway.http.server import listen, serving
from services.gateway.http.stream import Stream
from services.gateway.limits.networks import LOOPBACK, NOWHERE, Networks
from services.gateway.limits.places import Places
from services.gateway.limits.time_limits import TimeLimits
from services.gateway.metrics import Metrics
from shared.errors import Overloaded
from tests.support.harness.wait import eventually

LIMIT = 1 << 20
"""Bytes of a body that /echo takes."""


@dataclass
class RawServer:
    """A server in a thread of its own, so that tests may block on sockets."""

    url: str
    stop: Callable[[], None]
    places: Places
    loop: asyncio.AbstractEventLoop
    left: threading.Event = field(default_factory=threading.Event)
    """A client of /hold left."""
    go: threading.Event = field(default_factory=threading.Event)
    """Lets /hold respond."""
    served: list[str] = field(default_factory=list)
    """The requests that reached an operation."""

    def operations(self) -> list[Operation]:
        async def echo(request: Request) -> Response:
            body = await read_body(request, LIMIT)
            self.served.append(f"{request.method} {request.url.path}")
            return json_response({"body": body.decode(), "headers": sorted(request.headers)})

        async def deny(request: Request) -> Response:
            self.served.append(f"{request.method} {request.url.path}")
            raise Overloaded("try later")

        async def hold(request: Request) -> Response:
            self.served.append(f"{request.method} {request.url.path}")
            try:
                await unless_gone(request.receive, eventually(self.go.is_set, timeout=60))
            except Exception:
                self.left.set()
                raise
            return json_response({"held": True})

        async def stream(_request: Request) -> Stream:
            return Stream(_events)

        async def broken(_request: Request) -> Response:
            async def parts() -> AsyncIterator[bytes]:
                yield b"a"
                raise ZeroDivisionError

            return StreamingResponse(parts())

        async def large(_request: Request) -> Response:
            return Response(b"x" * (8 << 20), media_type="text/plain")

        return [
            Operation("POST", "/echo", echo, "", "test"),
            Operation("POST", "/deny", deny, "", "test"),
            Operation("GET", "/hold", hold, "", "test"),
            Operation("GET", "/stream", stream, "", "test"),
            Operation("GET", "/broken", broken, "", "test"),
            Operation("GET", "/large", large, "", "test"),
        ]


@asynccontextmanager
async def _events() -> AsyncIterator[AsyncIterator[bytes]]:
    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number

    yield events()


@contextmanager
def serving_raw(
    limits: TimeLimits, loop: str = "uvloop", *, places: Places | None = None, proxies: Networks = NOWHERE
) -> Iterator[RawServer]:
    """The gateway's server without a key, while the block runs; by default with as many places as one needs."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[RawServer] = []

    async def serve() -> None:
        here = asyncio.get_running_loop()
        server = RawServer(
            "", lambda: here.call_soon_threadsafe(stop.set), places or Places(4096, 4096, LOOPBACK), here
        )
        app = make_app(server.operations(), keys=None, metrics=Metrics())
        async with serving(app, listen("127.0.0.1", 0), 5.0, limits, server.places, proxies=proxies) as server.url:
            found.append(server)
            ready.set()
            await stop.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        found[0].go.set()
        found[0].stop()
        thread.join(10)
        assert not thread.is_alive()
