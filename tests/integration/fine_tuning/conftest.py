"""A gateway, a scheduler, a registry and a node on a real bus. Trainer and replicas are processes without a model."""

import base64
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from services.gateway.app import gateway as run_gateway
from services.gateway.settings import Settings
from shared.bus.connect import connect
from shared.contracts.registry import DATASETS, MODELS, CreateModelVersion, ResolveReference
from shared.service.context import Context
from shared.service.python import python_module
from shared.service.readiness import Readiness
from tests.integration.jobs.conftest import System, system  # noqa: F401  # a fixture
from tests.support.factories.manifests import uploaded
from tests.support.factories.scheduling import GIB
from tests.support.harness.wait import eventually

ADMIN_KEY = "llmos-" + base64.urlsafe_b64encode(b"a" * 32).rstrip(b"=").decode()
REPOSITORY = Path(__file__).parents[3]
BASE = "smollm2"
CHATS = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n' * 12
PAIRS = (
    b'{"input": {"messages": [{"role": "user", "content": "hi"}]},'
    b' "preferred_output": [{"role": "assistant", "content": "hello"}],'
    b' "non_preferred_output": [{"role": "assistant", "content": "go away"}]}\n'
) * 12


@dataclass
class Stand:
    """What a test sees of it."""

    system: System
    url: str
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient
    """For what the client package does not do."""

    async def upload(self, data: bytes = CHATS, name: str = "chats.jsonl", purpose: str = "fine-tune"):
        return await self.client.files.create(file=(name, data), purpose=purpose)

    async def train(self, **fields):
        """A fine-tuning job on a file of conversations."""
        file = fields.pop("training_file", None) or (await self.upload()).id
        return await self.client.fine_tuning.jobs.create(model=BASE, training_file=file, **fields)

    async def reaches(self, job_id: str, status: str, timeout: float = 30.0):
        """The job in that status; fails at once when it ends in another."""

        async def reached():
            job = await self.client.fine_tuning.jobs.retrieve(job_id)
            if job.status in {"succeeded", "failed", "cancelled"} and job.status != status:
                raise RuntimeError(f"the job has {job.status}: {job.error}")
            return [job] if job.status == status else None

        return (await eventually(reached, timeout))[0]

    async def manifest(self, name: str):
        """Of the newest version of a model."""
        return (await self.system.ask(MODELS.resolve, ResolveReference(reference=name))).manifest

    async def rows(self, name: str):
        """The newest version of a dataset."""
        return await self.system.ask(DATASETS.resolve, ResolveReference(reference=name))

    async def start_node(self):
        """A node whose trainer and replicas are stand-ins."""
        return await self.system.start_agent(
            memory=16 * GIB,
            job_command=python_module("tests.support.fakes.trainer"),
            replica_command=python_module("tests.support.fakes.replica"),
        )


@pytest.fixture
def gateway_settings():
    """Parametrize it to change what a test's gateway is set to."""
    return {}


@pytest.fixture
async def stand(system, tmp_path, monkeypatch, gateway_settings):  # noqa: F811
    monkeypatch.setenv("FAKE_REPLICA_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("LLMOS_NATS_URL", system.url)
    key_file = tmp_path / "admin.key"
    key_file.write_text(ADMIN_KEY + "\n")
    settings = Settings(
        nats_url=system.url,
        port=0,
        grpc_port=0,
        admin_key_file=key_file,
        store_url=(tmp_path / "store").as_uri(),
        drain_timeout=1.0,
        **gateway_settings,
    )
    async with AsyncExitStack() as stack:
        bus = await connect(system.url, name="gateway-a")
        stack.push_async_callback(bus.drain)
        url = await stack.enter_async_context(
            run_gateway(Context("gateway", "gateway-a", bus, Readiness()), settings)
        )
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=20)
        )
        client = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=4)
        )  # leases are short here: on a busy machine a scheduler may lose its lead for a moment

        async def ready():
            answers = [await http.get(path) for path in ("/readyz", "/v1/fine_tuning/jobs")]  # a scheduler leads
            return [answer.status_code for answer in answers] == [200, 200]

        await eventually(ready)
        manifest = await uploaded(system.store, {"model.onnx": b"weights"})
        await system.ask(MODELS.create, CreateModelVersion(name=BASE, manifest=manifest))
        yield Stand(system, url, client, http)
