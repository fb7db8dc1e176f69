"""A real gateway in front of real request handlers, in one process: scripted computing, a bus in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import numpy as np

from services.gateway.app import gateway as run_gateway
from services.gateway.settings import Settings
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import TokenRow
from services.inference.encoder.runner import EncoderRunner
from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.replica.encode import endpoints as encode
from services.inference.replica.encode.handler import EncodeHandler
from services.inference.replica.encode.tokenization import TokenizationHandler
from services.inference.replica.generate import endpoints as generate
from services.inference.replica.load import report_load
from services.inference.turns import Turns
from shared.bus.memory.bus import MemoryBus
from shared.contracts.base import Contract
from shared.contracts.manifest import EncoderSpec, Task
from shared.contracts.scheduler import (
    DEPLOYMENTS_BUCKET,
    REPLICAS_BUCKET,
    Deployment,
    ReplicaAssignment,
    ReplicaState,
    Resources,
)
from shared.contracts.serving import ReplicaOptions
from shared.service.background import background
from shared.service.context import Context
from shared.service.readiness import Readiness
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import memory_replica
from tests.support.harness.wait import eventually
from tests.support.models.small_encoder import VOCABULARY, tokenizer_json

DECODER, EMBEDDER, RANKER = "decoder", "embedder", "ranker"
"""The deployments."""
MAX_LEN = 2048


@dataclass
class MemorySystem:
    """A running one; `client` asks its gateway without a key."""

    client: httpx.AsyncClient
    bus: MemoryBus
    _stack: AsyncExitStack = field(repr=False)

    async def chat(self, **body: object) -> httpx.Response:
        """A greedy answer of a few tokens, unless the body says otherwise."""
        common = {
            "model": DECODER,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 2,
            "temperature": 0,
        }
        return await self.client.post("/v1/chat/completions", json={**common, **body})

    async def deploy(self, name: str, task: Task, replica: ReplicaAssignment) -> None:
        """Announce a deployment and its one replica."""
        deployment = Deployment(
            name=name,
            model=name,
            version=1,
            digest=replica.digest,
            replicas=1,
            options=replica.options,
            resources=replica.resources,
            task=task,
            created_at=datetime(2026, 11, 24, tzinfo=UTC),
        )
        await self.bus.kv(DEPLOYMENTS_BUCKET).put(name, deployment.encode())
        await self._stack.enter_async_context(background(self._lease(replica), f"lease of {name}"))

    async def _lease(self, replica: ReplicaAssignment) -> None:
        status: Contract = replica.status("node-a", ReplicaState.READY)
        while True:
            await self.bus.kv(REPLICAS_BUCKET).put(replica.id, status.encode())
            await asyncio.sleep(1.0)


class _Vectors:
    """An encoder graph: each vector depends on the text's tokens."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, rows: Sequence[TokenRow]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        sums = np.array([float(row.ids.sum()) for row in rows], np.float32)
        return np.sin(np.outer(sums + 1.0, np.arange(1, self._size + 1, dtype=np.float32)))

    def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def memory_system(tokenizer: Tokenizer, template: str | None = None) -> AsyncIterator[MemorySystem]:
    """The gateway, a decoder with a chat template, an embedder and a ranker."""
    bus = MemoryBus()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.drain)
        context = Context("gateway", "gateway-test", bus, Readiness())
        settings = Settings(
            nats_url="nats://127.0.0.1:1", port=0, grpc_port=0, auth="off", drain_timeout=1.0, request_timeout=30.0
        )
        url = await stack.enter_async_context(run_gateway(context, settings))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        system = MemorySystem(client, bus, stack)
        await _start_decoder(system, stack, tokenizer, template)
        await _start_encoder(system, stack, EMBEDDER, labels=())
        await _start_encoder(system, stack, RANKER, labels=("relevance",))
        for name in (DECODER, EMBEDDER, RANKER):
            await eventually(lambda name=name: _ready(client, name))
        yield system


async def _ready(client: httpx.AsyncClient, name: str) -> bool:
    answer = await client.get(f"/v1/models/{name}")
    return answer.status_code == 200 and answer.json()["ready_replicas"] == 1


def _assignment(name: str) -> ReplicaAssignment:
    return ReplicaAssignment(
        id=f"{name}-1-a",
        deployment=name,
        model=name,
        version=1,
        digest="cd" * 32,
        options=ReplicaOptions(slots=2, max_len=MAX_LEN),
        resources=Resources(memory=1, threads=1),
    )


async def _start_decoder(
    system: MemorySystem, stack: AsyncExitStack, tokenizer: Tokenizer, template: str | None
) -> None:
    replica, assignment = (
        await memory_replica(stack, tokenizer, template=template, max_len=MAX_LEN, bus=system.bus),
        _assignment(DECODER),
    )
    context = Context("replica", assignment.id, system.bus, Readiness())
    served = generate.endpoints(context, assignment.id, replica.generate, replica.tokenization, replica.serving)
    await stack.enter_async_context(served)
    await stack.enter_async_context(background(report_load(system.bus, assignment, replica.engine.load), "load"))
    await system.deploy(DECODER, "generate", assignment)


async def _start_encoder(system: MemorySystem, stack: AsyncExitStack, name: str, *, labels: tuple[str, ...]) -> None:
    size = len(labels) or 8
    assignment = _assignment(name)
    spec = EncoderSpec(
        hidden_size=8, vocab_size=VOCABULARY, context_length=MAX_LEN, output_size=size, labels=labels,
        pooling="none" if labels else "mean",
    )  # fmt: skip
    runner = EncoderRunner(_Vectors(size), EncoderLimits(), max_len=MAX_LEN)
    texts = EncoderTokenizer(tokenizer_json(), vocab_size=VOCABULARY, max_len=MAX_LEN)
    turns = Turns("texts")
    handler = EncodeHandler(runner, texts, spec, turns, lambda _: None)
    tokenization = TokenizationHandler(texts, spec, turns=turns, max_len=MAX_LEN)
    context = Context("replica", assignment.id, system.bus, Readiness())
    await stack.enter_async_context(encode.endpoints(context, assignment.id, handler, tokenization, runner))
    runner.start()
    stack.callback(runner.close)
    await stack.enter_async_context(background(report_load(system.bus, assignment, runner.load), f"load of {name}"))
    await system.deploy(name, "classify" if labels else "embed", assignment)
