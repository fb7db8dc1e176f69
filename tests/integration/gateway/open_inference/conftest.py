"""Replicas of small graphs with named tensors behind a real gateway: fixtures for the Open Inference Protocol."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from devtools.convert.tensor.version import convert_tensor
from shared.contracts.resources import Resources
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment, ReplicaState
from shared.contracts.serving import ReplicaOptions
from shared.storage.directory import DirectoryStore
from tests.support.harness.replicas import replica_process, store_version
from tests.support.harness.wait import eventually
from tests.support.models.tensor_graphs import write_echo, write_linear, write_names
from tests.support.nats.server import free_port


class Version:
    def __init__(self, folder, name, convert) -> None:
        self.name, self.store = name, folder / "store"
        self.manifest = convert(folder / f"{name}-version")
        store = DirectoryStore(self.store)
        self.digest = asyncio.run(store_version(store, folder / f"{name}-version", self.manifest, name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def iris(folder):
    return Version(folder, "iris", lambda to: convert_tensor(write_linear(folder / "iris.onnx"), to))


@pytest.fixture(scope="module")
def greeter(folder):
    return Version(folder, "greeter", lambda to: convert_tensor(write_names(folder / "names.onnx"), to))


@pytest.fixture(scope="module")
def echo(folder):
    return Version(folder, "echo", lambda to: convert_tensor(write_echo(folder / "echo.onnx", 1), to))


@pytest.fixture(scope="module")
def graphs(iris, greeter, echo):
    return (iris, greeter, echo)


@pytest.fixture
def gateway_settings():
    return {"grpc_port": free_port()}


@pytest.fixture
async def serve(stand):
    async with AsyncExitStack() as stack:

        async def start(version: Version, **more):
            deployment = Deployment(
                name=version.name,
                model=version.name,
                version=1,
                digest=version.digest,
                task=version.manifest.task,
                options=ReplicaOptions(max_len=24),
                resources=Resources(memory=1, threads=1),
                created_at=datetime(2026, 11, 24, tzinfo=UTC),
            )
            await stand.bus.kv(DEPLOYMENTS_BUCKET).put(version.name, deployment.encode())
            process = await stack.enter_async_context(
                replica_process(
                    stand.bus,
                    stand.nats.url,
                    version.store,
                    stand.folder / "cache",
                    version.digest,
                    model=version.name,
                    max_len=24,
                    **more,
                )
            )
            await process.until(ReplicaState.READY)

            async def ready() -> bool:
                return (await stand.client.get(f"/v2/models/{version.name}/ready")).status_code == 200

            await eventually(ready)
            return process

        yield start
