"""Fixtures that every suite may ask for."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shared.bus.connect import connect
from shared.bus.port import Bus
from tests.support.harness.buses import Buses, MemoryBuses, NatsBuses
from tests.support.nats.server import NatsServer
from tests.support.s3.server import S3Server

UNIT = Path(__file__).parent / "unit"

# Tests talk to loopback with clients of their own, which would ask the developer's proxy for it.
for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY"):
    os.environ.pop(variable, None)
    os.environ.pop(variable.lower(), None)

# The suite must pass while other load runs: how long an example takes is no failure.
settings.register_profile("llmos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llmos")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast tests; with `-n`, keep a file's tests on one worker, and all that share the demo system."""
    for item in items:
        if UNIT in item.path.parents and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.fast)
        shared = "demo" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("demo" if shared else str(item.path)))


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """One nats-server for the whole run: name buckets and streams uniquely, or start your own `NatsServer`."""
    with NatsServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the whole run: name buckets uniquely, or start your own `S3Server`."""
    with S3Server() as server:
        yield server


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    connection = await connect(nats_url, name="test", owner=True)
    yield connection
    await connection.drain()


@pytest.fixture(params=["memory", "nats"])
async def buses(request: pytest.FixtureRequest) -> AsyncIterator[Buses]:
    """Both adapters in turn. The NATS server is the shared one: it cannot be stopped."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryBuses(stack)
        else:
            yield NatsBuses(stack, request.getfixturevalue("nats_url"))


@pytest.fixture(params=["memory", "nats"])
async def mortal_buses(request: pytest.FixtureRequest) -> AsyncIterator[Buses]:
    """Both adapters in turn, with a broker of their own that can be stopped and started."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryBuses(stack)
        else:
            server = stack.enter_context(NatsServer())
            yield NatsBuses(stack, server.url, server)
