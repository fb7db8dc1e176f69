"""Several connections to one broker, for the tests that both adapters of the bus must pass."""

import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import Protocol

from shared.bus.connect import connect
from shared.bus.memory.bus import MemoryBroker, MemoryBus
from shared.bus.port import Bus
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer


class Buses(Protocol):
    """Connections to one broker, drained at the end of the test."""

    async def connect(self) -> Bus:
        """One more connection."""

    async def stop(self) -> None:
        """The broker is gone; returns when every connection knows."""

    async def start(self) -> None:
        """The broker is back with all that it has stored; returns when every connection is back."""


def unique(prefix: str) -> str:
    """A name nobody else uses: the server is shared by all tests of a run."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class MemoryBuses:
    """`Buses` in memory."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._broker = MemoryBroker()

    async def connect(self) -> Bus:
        bus = MemoryBus(self._broker)
        self._stack.push_async_callback(bus.drain)
        return bus

    async def stop(self) -> None:
        self._broker.stop()

    async def start(self) -> None:
        self._broker.start()


class NatsBuses:
    """`Buses` over NATS; with `server` the broker can be stopped (with `kill -9`) and started."""

    def __init__(self, stack: AsyncExitStack, url: str, server: NatsServer | None = None) -> None:
        self._stack = stack
        self._url = url
        self._server = server
        self._buses: list[Bus] = []

    async def connect(self) -> Bus:
        bus = await connect(self._url, name="test", timeout=10, owner=True)
        self._stack.push_async_callback(bus.drain)
        self._buses.append(bus)
        return bus

    async def stop(self) -> None:
        assert self._server is not None
        await asyncio.to_thread(self._server.kill)
        await eventually(lambda: not any(bus.connected for bus in self._buses))

    async def start(self) -> None:
        assert self._server is not None
        await asyncio.to_thread(self._server.start)
        await eventually(lambda: all(bus.connected for bus in self._buses))
