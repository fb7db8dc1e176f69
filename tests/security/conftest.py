"""The gateway of the integration tests, and replicas that serve a small random model: attacked."""

import asyncio
from pathlib import Path

import pytest

from devtools.convert.from_gguf import convert_gguf
from shared.storage.directory import DirectoryStore
from tests.integration.gateway.conftest import gateway_settings, server, spans, stand
from tests.support.harness.replicas import FrameClient, replica_process, store_version
from tests.support.models.small_model import write_small_gguf

__all__ = ["client", "gateway_settings", "server", "small_store", "spans", "stand", "start_replica"]


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder of the store, digest of the manifest of small:1)."""
    folder = tmp_path_factory.mktemp("small")
    manifest = convert_gguf(write_small_gguf(folder / "small.gguf"), folder / "version")
    store = DirectoryStore(folder / "store")
    return folder / "store", asyncio.run(store_version(store, folder / "version", manifest, "small"))


@pytest.fixture
def start_replica(bus, nats_url, small_store, tmp_path):
    """Start a replica of small:1."""
    store, digest = small_store
    return lambda **options: replica_process(bus, nats_url, store, tmp_path / "cache", digest, **options)


@pytest.fixture
async def client(bus):
    client = FrameClient(bus)
    await client.start()
    return client
