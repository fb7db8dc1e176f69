"""The gateway as a process, and through the loss of its message bus."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment
from shared.service.python import python_module
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand, chat_body, is_ready
from tests.integration.gateway.test_gateway_chat import events
from tests.support.fakes.scripted_replica import ScriptedReplica, scripted_replica
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer, free_port

HEADERS = {"authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A server of its own for each test: they kill it."""
    with NatsServer() as running:
        yield running


@asynccontextmanager
async def process(
    server: NatsServer, folder: Path, port: int, **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    key_file = folder / "admin.key"
    key_file.write_text(ADMIN_KEY)
    environment = {
        **os.environ,
        "LLMOS_NATS_URL": server.url,
        "LLMOS_GATEWAY_PORT": str(port),
        "LLMOS_GATEWAY_GRPC_PORT": "0",
        "LLMOS_GATEWAY_ADMIN_KEY_FILE": str(key_file),
        "LLMOS_LOG_FORMAT": "json",
        **environ,
    }
    started = await asyncio.create_subprocess_exec(
        *python_module("services.gateway"), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def deploy(replica: ScriptedReplica) -> None:
    assert Deployment.EXAMPLE is not None
    deployment = Deployment.EXAMPLE.model_copy(update={"name": MODEL, "model": MODEL})
    await replica.bus.kv(DEPLOYMENTS_BUCKET).put(MODEL, deployment.encode())


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return await is_ready(client)
    except httpx.TransportError:
        return False


async def has_heard_of(client: httpx.AsyncClient, replica_id: str) -> bool:
    """Whether the gateway has a load report of the replica: it sends nothing to one that is silent."""
    return f'replica="{replica_id}"' in (await client.get("/metrics")).text


async def test_sigterm_lets_a_stream_finish_and_exits_with_0(server: NatsServer, tmp_path: Path) -> None:
    port = free_port()
    async with (
        process(server, tmp_path, port) as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=HEADERS) as client,
        scripted_replica(server.url, "sample-1-a", MODEL, token_delay=0.05) as replica,
    ):
        await deploy(replica)
        await eventually(lambda: answers(client), timeout=20)
        await eventually(lambda: has_heard_of(client, replica.id))
        streaming = asyncio.create_task(
            client.post("/v1/chat/completions", json=chat_body(stream=True, max_tokens=20))
        )
        await eventually(lambda: replica.running == 1)
        gateway.send_signal(signal.SIGTERM)
        answer = await streaming
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(answer.text))
        assert text == expected_text("tell me words", 7, 20)
        assert await asyncio.wait_for(gateway.wait(), timeout=10) == 0
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_a_port_in_use_is_one_clear_line_and_exit_code_1(stand: Stand, tmp_path: Path) -> None:
    port = int(stand.url.rsplit(":", 1)[1])
    async with process(stand.nats, tmp_path, port) as gateway:
        _, stderr = await asyncio.wait_for(gateway.communicate(), timeout=20)
        assert gateway.returncode == 1
        assert f"port {port} on 127.0.0.1 is in use" in stderr.decode()
        assert "Traceback" not in stderr.decode()


async def test_while_the_bus_is_down_keys_work_and_requests_say_503(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    stand.nats.kill()
    await eventually(lambda: not stand.bus.connected)
    assert (await stand.client.get("/v1/models")).json()["data"][0]["id"] == MODEL
    answer = await stand.chat()
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert (await stand.client.get("/llmos/v1/nodes")).status_code == 503
    assert (await stand.client.get("/v1/models", headers={"authorization": "Bearer no"})).status_code == 401
    stand.nats.start()
    await eventually(lambda: chats(stand), timeout=20)


async def test_a_request_waits_for_a_bus_that_is_restarted(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    assert await chats(stand)
    stand.nats.kill()
    await eventually(lambda: not stand.bus.connected)
    asked = [asyncio.create_task(stand.chat()) for _ in range(3)]
    await asyncio.wait(asked, timeout=0.5)
    stand.nats.start()
    assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 3


async def chats(stand: Stand) -> bool:
    return (await stand.chat()).status_code == 200


async def test_a_stream_survives_a_restart_of_the_bus(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.05)
    task = asyncio.create_task(stand.chat(stream=True, max_tokens=30))
    await eventually(lambda: replica.steps >= 3)
    stand.nats.kill()
    await eventually(lambda: not stand.bus.connected)
    stand.nats.start()
    chunks = events((await task).text)
    assert "error" not in chunks[-1], chunks[-1]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == expected_text("tell me words", 7, 30)


async def test_a_stop_ends_streams_that_take_too_long_with_an_error(server: NatsServer, tmp_path: Path) -> None:
    port = free_port()
    async with (
        process(server, tmp_path, port, LLMOS_DRAIN_TIMEOUT="1") as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=HEADERS) as client,
        scripted_replica(server.url, "sample-1-a", MODEL, token_delay=0.05) as replica,
    ):
        await deploy(replica)
        await eventually(lambda: answers(client), timeout=20)
        await eventually(lambda: has_heard_of(client, replica.id))
        streaming = asyncio.create_task(
            client.post("/v1/chat/completions", json=chat_body(stream=True, max_tokens=10_000))
        )
        await eventually(lambda: replica.running == 1)
        gateway.send_signal(signal.SIGTERM)
        answer = await streaming
        assert "shutting down" in events(answer.text)[-1]["error"]["message"]
        await eventually(lambda: replica.running == 0)
        assert await asyncio.wait_for(gateway.wait(), timeout=10) == 0
