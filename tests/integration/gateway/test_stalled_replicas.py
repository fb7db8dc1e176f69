"""Real replicas whose model hangs, or whose process is stopped: the answers go on at another one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.contracts.scheduler import ReplicaState
from shared.service.stacks import SIGNAL
from tests.integration.gateway.conftest import Stand
from tests.integration.gateway.test_gateway_chat import events
from tests.support.harness.replicas import ReplicaProcess, replica_process
from tests.support.harness.wait import eventually

COUNT = 400
BODY = {"model": "small", "max_tokens": COUNT, "ignore_eos": True, "temperature": 0.8, "seed": 5}


@dataclass
class Two:
    """Two replicas of one deployment, each with the file that makes its model hang."""

    stand: Stand
    replicas: dict[str, tuple[ReplicaProcess, Path]]

    async def whole(self) -> str:
        """The answer that nothing disturbs."""
        answer = await self.stand.chat(**BODY)
        assert answer.status_code == 200, answer.text
        content: str = answer.json()["choices"][0]["message"]["content"]
        return content

    async def begin(self) -> "tuple[asyncio.Task[tuple[str, int]], ReplicaProcess]":
        """A stream that has begun, and its replica."""

        async def running() -> list[str]:
            return [replica for replica, count in (await self.metric("running")).items() if count]

        async def none_runs() -> bool:
            return not await running()

        await eventually(none_runs)
        task = asyncio.create_task(self.stream())
        (name,) = await eventually(running)
        return task, self.replicas[name][0]

    async def stream(self) -> tuple[str, int]:
        answer = await self.stand.chat(stream=True, stream_options={"include_usage": True}, **BODY)
        assert answer.status_code == 200, answer.text
        chunks = events(answer.text)
        assert "error" not in chunks[-1], chunks[-1]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        return text, chunks[-1]["usage"]["completion_tokens"]

    async def metric(self, name: str) -> dict[str, float]:
        """Of each replica, as its last load report has it."""
        lines = (await self.stand.client.get("/metrics")).text.splitlines()
        found = [line for line in lines if line.startswith(f"llmos_replica_{name}{{")]
        return {line.split('replica="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in found}


@pytest.fixture
async def two(stand: Stand, small_store: tuple[Path, str], tmp_path: Path) -> AsyncIterator[Two]:
    store, digest = small_store
    await stand.deploy("small", replicas=2)
    async with AsyncExitStack() as stack:
        replicas = {}
        for number in range(2):
            stall = tmp_path / f"stall-{number}"
            process = await stack.enter_async_context(
                replica_process(
                    stand.bus,
                    stand.nats.url,
                    store,
                    tmp_path / "cache",
                    digest,
                    max_len=512,
                    module="tests.support.fakes.altered_replica",
                    ALTERED_STALL_FILE=str(stall),
                    ALTERED_TOKEN_S="0.005",
                    LLMOS_DRAIN_TIMEOUT="4.2",
                )
            )
            await process.until(ReplicaState.READY)
            replicas[process.id] = process, stall

        async def both_ready() -> bool:
            model = (await stand.client.get("/v1/models/small")).json()
            return bool(model["ready_replicas"] == 2)

        await eventually(both_ready)
        yield Two(stand, replicas)


async def test_a_stream_goes_on_elsewhere_when_the_model_hangs_and_the_replica_recovers(two: Two) -> None:
    whole = await two.whole()
    streaming, victim = await two.begin()
    stall = two.replicas[victim.id][1]
    stall.touch()
    assert await streaming == (whole, COUNT)
    status = await victim.until(ReplicaState.STALLED)
    assert status.message.startswith("its engine has work and made no step for ")
    assert (await two.metric("stalled_seconds"))[victim.id] > 5
    log = victim.log.read_text()
    assert 'File "' in log, "the stacks of its threads are in its log"
    assert "in waits" in log, "the stack of the thread that hangs is among them"
    assert await two.whole() == whole, "new requests are answered by the other one"
    stall.unlink()
    assert (await victim.until(ReplicaState.READY)).message == ""
    assert (await two.metric("stalled_seconds"))[victim.id] == 0

    async def is_free() -> bool:
        return (await two.metric("running"))[victim.id] == 0

    await eventually(is_free)


async def test_a_stream_goes_on_elsewhere_when_the_process_is_stopped(two: Two) -> None:
    whole = await two.whole()
    streaming, victim = await two.begin()
    os.kill(victim.process.pid, signal.SIGSTOP)
    try:
        assert await streaming == (whole, COUNT)
        assert await two.whole() == whole
    finally:
        os.kill(victim.process.pid, signal.SIGCONT)


async def test_a_stalled_replica_writes_its_stacks_when_it_is_asked_and_ends_when_it_must(two: Two) -> None:
    streaming, victim = await two.begin()
    two.replicas[victim.id][1].touch()
    await victim.until(ReplicaState.STALLED)
    before = victim.log.read_text().count("in waits")
    victim.process.send_signal(SIGNAL)
    await eventually(lambda: victim.log.read_text().count("in waits") > before)
    assert victim.process.returncode is None
    await streaming
    assert await victim.stop(timeout=60) != 0, "its engine never confirms that it ended"
