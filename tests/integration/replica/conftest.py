"""A replica that serves a small random model, shared by the tests of this folder."""

from pathlib import Path

import pytest
import pytest_asyncio

from shared.bus.connect import connect
from shared.contracts.scheduler import ReplicaState
from tests.support.harness.replicas import FrameClient, replica_process


@pytest.fixture
def start_replica(bus, nats_url, small_store, tmp_path):
    """Start another replica of small:1."""
    store, digest = small_store
    return lambda **options: replica_process(bus, nats_url, store, tmp_path / "cache", digest, **options)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_bus(nats_url):
    connection = await connect(nats_url, name="test")
    yield connection
    await connection.drain()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(shared_bus, nats_url, small_store, tmp_path_factory):
    """One replica with 4 slots of 512 tokens, for tests that leave it as they found it."""
    store, digest = small_store
    cache: Path = tmp_path_factory.mktemp("node") / "cache"
    async with replica_process(shared_bus, nats_url, store, cache, digest, max_len=512) as process:
        await process.until(ReplicaState.READY)
        yield process


@pytest.fixture
async def client(bus):
    client = FrameClient(bus)
    await client.start()
    return client
