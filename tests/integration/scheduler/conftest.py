"""A scheduler on a bus of its own: leases of one second, a registry that knows two versions."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.scheduler.app import app
from services.scheduler.settings import Settings
from shared.bus.connect import connect
from shared.bus.rpc import respond
from shared.contracts.manifest import Reference
from shared.contracts.registry import MODELS, ModelVersion
from shared.errors import NotFound
from shared.service.context import Context
from shared.service.readiness import Readiness
from tests.support.fakes.node import FakeNode
from tests.support.nats.server import NatsServer

TTL_S = 1.0


@pytest.fixture
def server():
    with NatsServer() as running:
        yield running


@pytest.fixture
async def bus(server):
    connection = await connect(server.url, name="test")
    yield connection
    await connection.drain()


@pytest.fixture
async def registry(bus):
    """Answers MODELS.resolve for smollm2:1 and smollm2:2, the newest."""

    async def resolve(request):
        reference = Reference.parse(request.reference)
        number = reference.version or 2
        if reference.name != "smollm2" or number > 2:
            raise NotFound(f"no version {request.reference!r}: there are smollm2:1, smollm2:2")
        return ModelVersion.EXAMPLE.model_copy(update={"version": number, "digest": f"{number:064x}"})

    await respond(bus, MODELS.resolve, resolve)


@asynccontextmanager
async def running_scheduler(url, name="scheduler-a"):
    connection = await connect(url, name=name)
    try:
        async with app(Context("scheduler", name, connection, Readiness()), Settings(), ttl=TTL_S):
            yield connection
    finally:
        await connection.drain()


@pytest.fixture
def schedulers(server):
    """Start a scheduler by name; as an async context manager."""
    return lambda name="scheduler-a": running_scheduler(server.url, name)


@pytest.fixture
async def scheduler(schedulers, registry):
    async with schedulers():
        yield


@pytest.fixture
async def nodes(bus):
    """Start a node; answers it. It goes away at the end of the test, or with `leave(name)`."""
    async with AsyncExitStack() as stack:

        async def start(name, **options):
            return await stack.enter_async_context(FakeNode(bus, name, **options).running())

        yield start
        await asyncio.sleep(0)
