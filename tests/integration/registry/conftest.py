"""Registries on a NATS server of their own: their buckets have fixed names."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from services.registry.service import RegistryService
from shared.bus.connect import connect
from shared.bus.port import Bus
from shared.storage.open import open_store
from shared.storage.port import ArtifactStore
from tests.support.nats.server import NatsServer


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
async def client(nats) -> AsyncIterator[Bus]:
    bus = await connect(nats.url, name="client")
    yield bus
    await bus.drain()


StartRegistry = Callable[..., Awaitable[RegistryService]]


@pytest.fixture
async def start_registry(nats, store) -> AsyncIterator[StartRegistry]:
    """Starts registries, each on a connection of its own."""
    async with AsyncExitStack() as stack:

        async def start(on: ArtifactStore = store) -> RegistryService:
            bus = await connect(nats.url, name="registry")
            stack.push_async_callback(bus.drain)
            return await stack.enter_async_context(RegistryService(bus, on, actor="registry-test").running())

        yield start


@pytest.fixture
async def registry(start_registry) -> RegistryService:
    return await start_registry()
