"""A real gateway on loopback in front of scripted replicas, over a real nats-server."""

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.gateway.app import gateway as run_gateway
from services.gateway.dispatch import dispatcher
from services.gateway.dispatch import spans as request_spans
from services.gateway.http import middleware
from services.gateway.open_inference.rpc import calls as rpc_calls
from services.gateway.settings import Settings
from shared.bus.connect import connect
from shared.bus.port import Bus
from shared.contracts.gateway import TENANTS_BUCKET
from shared.contracts.resources import Resources
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, REPLICAS_BUCKET, Deployment, ReplicaState
from shared.contracts.serving import ReplicaOptions
from shared.service.context import Context
from shared.service.readiness import Readiness
from tests.support.fakes.scripted_replica import ScriptedReplica, scripted_replica
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer

ADMIN_KEY = "llmos-" + base64.urlsafe_b64encode(b"a" * 32).rstrip(b"=").decode()
MODEL = "sample"


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with NatsServer() as running:
        yield running


@dataclass
class Stand:
    """A gateway with its surroundings."""

    url: str
    client: httpx.AsyncClient
    bus: Bus
    nats: NatsServer
    folder: Path
    _stack: AsyncExitStack
    replicas: list[ScriptedReplica] = field(default_factory=list)

    async def deploy(self, name: str = MODEL, replicas: int = 1) -> None:
        deployment = Deployment(
            name=name,
            model=name,
            version=1,
            digest="cd" * 32,
            replicas=replicas,
            options=ReplicaOptions(max_len=1024),
            resources=Resources(memory=1, threads=1),
            created_at=datetime(2026, 11, 24, tzinfo=UTC),
        )
        await self.bus.kv(DEPLOYMENTS_BUCKET).put(name, deployment.encode())
        await eventually(lambda: self._lists(name))

    async def replica(self, id: str = "sample-1-a", name: str = MODEL, **options: float) -> ScriptedReplica:  # noqa: A002
        started = await self._stack.enter_async_context(scripted_replica(self.nats.url, id, name, **options))
        self.replicas.append(started)
        await eventually(lambda: self._ready(name, len({replica.id for replica in self.replicas})))
        return started

    async def report_failed(self, replica: ScriptedReplica, message: str = "killed by signal 9") -> None:
        """What the node agent does when a replica's process has died."""
        status = replica.status(ReplicaState.FAILED, message)
        await self.bus.kv(REPLICAS_BUCKET).put(replica.id, status.encode())

    async def chat(self, **body: object) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json=chat_body(**body))

    async def _lists(self, name: str) -> bool:
        models = (await self.client.get("/v1/models")).json()["data"]
        return name in [model["id"] for model in models]

    async def _ready(self, name: str, count: int) -> bool:
        answer = await self.client.get(f"/v1/models/{name}")
        return answer.status_code == 200 and answer.json()["ready_replicas"] >= count


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


def chat_body(**changes: object) -> dict[str, object]:
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": "tell me words"}], "seed": 7}
    return {**body, **changes}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What the gateway's spans are exported to; the process's own provider is left alone."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (middleware, dispatcher, request_spans, rpc_calls):
        monkeypatch.setattr(module, "tracer", provider.get_tracer("llmos.gateway"))
    return exporter


@pytest.fixture
def gateway_settings() -> dict[str, object]:
    """Parametrize it to change what a test's gateway is set to."""
    return {}


@pytest.fixture
async def stand(server: NatsServer, tmp_path: Path, gateway_settings: dict[str, object]) -> AsyncIterator[Stand]:
    key_file = tmp_path / "admin.key"
    key_file.write_text(ADMIN_KEY + "\n")
    chosen: dict[str, object] = {
        "nats_url": server.url,
        "port": 0,
        "grpc_port": 0,
        "admin_key_file": key_file,
        "store_url": f"file://{tmp_path}/store",
        "drain_timeout": 1.0,
        "request_timeout": 20.0,
        "resume_timeout": 3.0,
    }
    settings = Settings(**{**chosen, **gateway_settings})
    async with AsyncExitStack() as stack:
        bus = await connect(server.url, name="gateway-test")
        stack.push_async_callback(bus.drain)
        context = Context("gateway", "gateway-test", bus, Readiness())
        url = await stack.enter_async_context(run_gateway(context, settings))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=20)
        )
        await eventually(lambda: is_ready(client))
        replicas = await stack.enter_async_context(AsyncExitStack())
        yield Stand(url, client, bus, server, tmp_path, replicas)
        await replicas.aclose()
        for bucket in (DEPLOYMENTS_BUCKET, REPLICAS_BUCKET, TENANTS_BUCKET):
            for entry in await bus.kv(bucket).entries():
                await bus.kv(bucket).delete(entry.key)
