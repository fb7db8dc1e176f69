"""The registry as a process: start, serve, wait for its store, restart, drain."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.bus.port import Bus, Message
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.monitor import Heartbeat, health_subject
from shared.contracts.registry import MODELS, CreateModelVersion, ResolveReference
from shared.service.python import python_module
from tests.support.factories.manifests import uploaded
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer, free_port

pytestmark = pytest.mark.slow


@asynccontextmanager
async def process(nats: NatsServer, store_url: str | None) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")}
    environment |= {"LLMOS_NATS_URL": nats.url, "LLMOS_REGISTRY_STORE_CHECK": "0.2"}
    if store_url is not None:
        environment["LLMOS_STORE_URL"] = store_url
    child = await asyncio.create_subprocess_exec(
        *python_module("services.registry"), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def heartbeats_of(client: Bus) -> list[Heartbeat]:
    """A list that grows with every heartbeat of a registry."""
    heartbeats: list[Heartbeat] = []

    def note(message: Message) -> None:
        heartbeats.append(Heartbeat.decode(message.data))

    await client.subscribe(health_subject("registry", "*"), note)
    return heartbeats


def reasons(heartbeats: list[Heartbeat]) -> list[str]:
    """All that a registry ever said against its being ready."""
    return [reason for heartbeat in heartbeats for reason in heartbeat.reasons]


async def ready(heartbeats: list[Heartbeat]) -> None:
    await eventually(lambda: heartbeats and heartbeats[-1].ready, timeout=20)


async def test_what_was_made_survives_kill_9_and_a_drain_exits_0(nats, client, store, tmp_path: Path):
    heartbeats = await heartbeats_of(client)
    url = (tmp_path / "store").as_uri()
    async with process(nats, url) as child:
        await ready(heartbeats)
        manifest = await uploaded(store, {"model.onnx": b"one"})
        request = CreateModelVersion(name="smollm2", manifest=manifest, aliases=("prod",))
        made = await call(client, MODELS.create, request, timeout=5)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    heartbeats.clear()
    async with process(nats, url) as child:
        await ready(heartbeats)
        found = await call(client, MODELS.resolve, ResolveReference(reference="smollm2@prod"), timeout=5)
        assert found == made
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 10) == 0


async def test_a_registry_without_its_store_is_not_ready_says_why_and_can_be_stopped(nats, client):
    heartbeats = await heartbeats_of(client)
    url = f"s3://models?endpoint=http://127.0.0.1:{free_port()}&region=us-east-1"
    async with process(nats, url) as child:
        await eventually(
            lambda: any(
                "store: " in reason and "can't be reached" in reason
                for heartbeat in heartbeats
                for reason in heartbeat.reasons
            ),
            timeout=20,
        )
        assert not any(heartbeat.ready for heartbeat in heartbeats)
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 10) == 0


async def test_a_store_that_breaks_makes_the_registry_not_ready_and_its_return_ready(nats, client, tmp_path: Path):
    heartbeats = await heartbeats_of(client)
    folder = tmp_path / "store"
    async with process(nats, f"{folder.as_uri()}") as child:
        await ready(heartbeats)
        folder.rename(tmp_path / "away")
        folder.write_bytes(b"in the way")
        await eventually(lambda: not heartbeats[-1].ready, timeout=10)
        assert "store: writing to the store failed" in heartbeats[-1].reasons[0]
        folder.unlink()
        (tmp_path / "away").rename(folder)
        await ready(heartbeats)
        assert (await call(client, MODELS.list, Empty(), timeout=5)).models == ()
        assert child.returncode is None


async def test_a_missing_store_url_is_a_settings_error(nats):
    async with process(nats, None) as child:
        assert await asyncio.wait_for(child.wait(), 20) == 2
        assert child.stderr is not None
        assert b"LLMOS_STORE_URL" in await child.stderr.read()
