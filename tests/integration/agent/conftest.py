"""A node agent in this process, with replicas that are real processes of a sample program."""

import asyncio
import hashlib
import json
import os
import secrets
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.inference.app import app
from services.inference.settings import Settings
from shared.bus.connect import connect
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import ASSIGNMENTS_BUCKET, NODES_BUCKET, REPLICAS_BUCKET, ReplicaStatus
from shared.errors import Unavailable
from shared.service.context import Context
from shared.service.python import python_module
from shared.service.readiness import Readiness
from shared.storage.directory import DirectoryStore
from tests.support.factories.scheduling import GIB, runs
from tests.support.harness.processes import is_alive
from tests.support.nats.server import NatsServer

REPLICA_COMMAND = python_module("tests.support.fakes.replica")
MANIFEST = Manifest.EXAMPLE.model_copy(update={"files": ()}).encode()
DIGEST = hashlib.sha256(MANIFEST).hexdigest()
REPOSITORY = Path(__file__).parents[3]


class Bench:
    """One node as a test sees it: its assignment, its statuses, its processes."""

    def __init__(self, bus, url, folder):
        self.bus = bus
        self.url = url
        self.folder = folder

    @property
    def environment(self):
        return {
            "LLMOS_NATS_URL": self.url,
            "LLMOS_STORE_URL": (self.folder / "store").as_uri(),
            "LLMOS_CACHE_DIR": str(self.folder / "cache"),
            "FAKE_REPLICA_FOLDER": str(self.folder),
            "PYTHONPATH": str(REPOSITORY),
        }

    def agent_process(self):
        """An agent in a process of its own; a coroutine."""
        environment = {
            **os.environ,
            "LLMOS_INFERENCE_NODE_ID": "node-a",
            "LLMOS_INFERENCE_REPLICA_COMMAND": json.dumps(REPLICA_COMMAND),
            "LLMOS_LOG_LEVEL": "error",
        }
        return asyncio.create_subprocess_exec(*python_module("services.inference"), env=environment)

    @property
    def store(self):
        return DirectoryStore(self.folder / "store")

    async def assign(self, *replicas):
        """Each version is in the store: a manifest without files."""
        for one in replicas:
            await self.store.put_manifest(one.model, one.version, MANIFEST)
        await self.assign_exactly(*(one.model_copy(update={"digest": DIGEST}) for one in replicas))

    async def assign_exactly(self, *replicas):
        """Versions that the test has stored itself."""
        await self.bus.kv(ASSIGNMENTS_BUCKET).put("node-a", runs("node-a", *replicas).encode())

    async def status(self, key):
        try:
            entry = await self.bus.kv(REPLICAS_BUCKET).get(key)
        except Unavailable as error:  # the bus is away: `eventually` tries again
            raise AssertionError(error.message) from error
        return ReplicaStatus.decode(entry.value) if entry else None

    async def state(self, key):
        status = await self.status(key)
        return status and status.state.value

    async def node(self):
        try:
            return await self.bus.kv(NODES_BUCKET).get("node-a")
        except Unavailable as error:
            raise AssertionError(error.message) from error

    def pids(self, key):
        """Of all processes that were started for this replica, oldest first."""
        path = self.folder / f"{key}.pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def running(self, key):
        """The processes of this replica that live."""
        return [pid for pid in self.pids(key) if is_alive(pid)]

    def drained(self, key):
        return (self.folder / f"{key}.drained").exists()


@pytest.fixture
def server():
    with NatsServer() as running:
        yield running


@pytest.fixture
async def bench(server, tmp_path, monkeypatch):
    bus = await connect(server.url, name="test")
    made = Bench(bus, server.url, tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    await bus.drain()


@asynccontextmanager
async def running_agent(url, folder, **settings):
    given = {
        "node_id": "node-a",
        "memory": 4 * GIB,
        "threads": 4,
        "replica_command": REPLICA_COMMAND,
        "log_dir": folder / "logs",
        **settings,
    }
    bus = await connect(url, name="agent")
    try:
        context = Context("inference", f"inference-{secrets.token_hex(3)}", bus, Readiness())
        async with app(context, Settings(**given)):
            yield
    finally:
        await bus.drain()


@pytest.fixture
def agents(bench):
    """Run an agent with these settings; as an async context manager."""
    return lambda **settings: running_agent(bench.url, bench.folder, **settings)
