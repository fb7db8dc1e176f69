"""Fixtures that every suite may ask for."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.bus.connect import connect
from shared.bus.port import Bus
from tests.support.nats import NatsServer
from tests.support.s3 import S3Server


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """One nats-server for the whole run: name buckets and streams uniquely, or start your own `NatsServer`."""
    with NatsServer() as server:
        yield server.url


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    connection = await connect(nats_url, name="test")
    yield connection
    await connection.drain()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the whole run: name buckets uniquely, or start your own `S3Server`."""
    with S3Server() as server:
        yield server
