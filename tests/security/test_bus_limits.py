"""nats-server cuts a client off that leaves 64 MiB unread: a replica that is busy must not be that client."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.bus.connect import connect
from shared.bus.port import OBJECT_THRESHOLD, Message
from tests.support.nats.server import NatsServer

SUBJECT = "test.busy"
BUSY_S = 2.0


class BusyResponder:
    """A process's bus on a loop of its own, which does nothing for a while when the first request comes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self.answered = 0
        self.losses = 0

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        bus = await connect(self._url, name="busy")
        bus._connection.on_lost.add(self._lost)  # type: ignore[attr-defined]  # what is asserted
        await bus.respond(SUBJECT, self._respond)
        self._ready.set()
        await self._stop.wait()
        bus._connection.on_lost.clear()  # type: ignore[attr-defined]
        await bus.drain()

    def _lost(self) -> None:
        self.losses += 1

    async def _respond(self, message: Message) -> bytes:
        if not self.answered:
            time.sleep(BUSY_S)  # noqa: ASYNC251  # the loop stands still, as beside a large prompt
        self.answered += 1
        return str(len(message.data)).encode()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        assert self._ready.wait(10)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize(("count", "size"), [(200, OBJECT_THRESHOLD), (40, 5 << 20)])
async def test_more_than_the_server_holds_is_answered_by_a_replica_that_stood_still(count: int, size: int) -> None:
    with NatsServer() as server:
        responder, data = BusyResponder(server.url), b"x" * size
        with responder.running():
            bus = await connect(server.url, name="asking")
            asked = (bus.request(SUBJECT, data, timeout=60) for _ in range(count))
            answers = await asyncio.gather(*asked)
            await bus.drain()
    assert set(answers) == {str(size).encode()}
    assert responder.losses == 0
