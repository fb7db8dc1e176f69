"""How a replica starts, drains, fails and dies."""

import asyncio
import os
import signal

import psutil
import pytest

from shared.bus import rpc
from shared.bus.connect import connect
from shared.contracts.base import Empty
from shared.contracts.monitor import TRACES_SUBJECT
from shared.contracts.replica import Grammar, drain_endpoint
from shared.contracts.scheduler import ReplicaState
from shared.errors import DeadlineExceeded, Draining, InvalidInput, NoResponders, Unavailable
from shared.text.tokenizer import Tokenizer
from tests.support.harness.replicas import FrameClient, replica_process
from tests.support.harness.wait import eventually
from tests.support.models.small_tokenizers import byte_level
from tests.support.nats.server import NatsServer

GREEDY = {"temperature": 0.0, "ignore_eos": True}
LONG = GREEDY | {"max_tokens": 480}


async def running(replica, client, count=1, sampling=LONG):
    answers = [await client.send(replica.id, prompt="go", sampling=sampling) for _ in range(count)]
    await eventually(lambda: all(answer.frames for answer in answers))
    return answers


async def test_sigterm_lets_answers_finish_and_leaves_no_record(start_replica, client):
    async with start_replica(max_len=512) as replica:
        await replica.until(ReplicaState.READY)
        (answer,) = await running(replica, client)
        assert await replica.stop() == 0
        answer.check()
        assert answer.last.finish_reason == "length"
        assert len(answer.token_ids) == 480
        assert await replica.status() is None
        with pytest.raises(NoResponders):
            await client.send(replica.id, prompt="x")


@pytest.mark.slow
async def test_what_does_not_finish_in_the_drain_time_goes_on_elsewhere(start_replica, client):
    async with start_replica(max_len=512, slots=1, LLMOS_DRAIN_TIMEOUT="4.2") as replica:
        await replica.until(ReplicaState.READY)
        answers = await running(replica, client) + [
            await client.send(replica.id, prompt="go", sampling=LONG) for _ in range(12)
        ]
        stopped = asyncio.create_task(replica.stop())
        await replica.until(ReplicaState.DRAINING)
        with pytest.raises(Draining):
            await client.send(replica.id, prompt="late")
        assert await stopped == 0
        for answer in answers:
            answer.check()
        handed_back = [answer for answer in answers if answer.last.error is not None]
        assert handed_back
        assert all(answer.last.error.code == "draining" and answer.last.error.retryable for answer in handed_back)
    async with start_replica(max_len=512) as other:
        await other.until(ReplicaState.READY)
        whole = await client.ask(other.id, prompt="go", sampling=LONG)
        lost = handed_back[0]
        rest = await client.ask(other.id, prompt="go", sampling=LONG, resume_token_ids=lost.token_ids)
        assert lost.text + rest.text == whole.text


@pytest.mark.slow
async def test_the_drain_endpoint_ends_the_process_in_good_order(start_replica, client, bus):
    async with start_replica() as replica:
        await replica.until(ReplicaState.READY)
        await rpc.call(bus, drain_endpoint(replica.id), Empty(), timeout=5)
        assert await asyncio.wait_for(replica.process.wait(), 20) == 0
        assert await replica.status() is None


async def test_a_start_that_fails_says_why_and_exits_with_an_error(bus, nats_url, small_store, tmp_path):
    store, digest = small_store
    nowhere = str(tmp_path / "nothing")
    async with replica_process(
        bus, nats_url, store, tmp_path / "cache", digest, LLMOS_REPLICA_FILES=nowhere
    ) as replica:
        assert await asyncio.wait_for(replica.process.wait(), 30) == 1
        status = await replica.status()
        assert status.state is ReplicaState.FAILED
        assert "has no manifest: No such file" in status.message
        assert "Traceback" not in replica.log.read_text()


async def test_a_replica_that_was_given_a_gpu_fails_without_one_and_never_runs_on_the_cpu(start_replica):
    async with start_replica(device="cuda", gpu_memory=1 << 30) as replica:
        status = await replica.until(ReplicaState.FAILED)
        assert status.message.startswith("CUDA was asked for, but ONNX Runtime")
        assert await asyncio.wait_for(replica.process.wait(), 30) == 1


@pytest.mark.slow
async def test_a_slot_longer_than_the_models_context_is_refused(start_replica):
    async with start_replica(max_len=100_000) as replica:
        status = await replica.until(ReplicaState.FAILED)
        assert "512" in status.message
        assert await asyncio.wait_for(replica.process.wait(), 30) == 1


@pytest.mark.slow
async def test_a_killed_replica_leaves_no_process_behind(start_replica):
    async with start_replica() as replica:
        await replica.until(ReplicaState.READY)
        workers = psutil.Process(replica.process.pid).children(recursive=True)
        assert workers
        os.kill(replica.process.pid, signal.SIGKILL)
        await replica.process.wait()
        await eventually(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


@pytest.mark.slow
async def test_an_answer_is_traced(start_replica, client, bus):
    payloads = []

    def take(message):
        payloads.append(message.data)

    await bus.subscribe(TRACES_SUBJECT, take)
    async with start_replica() as replica:
        await replica.until(ReplicaState.READY)
        await client.ask(replica.id, prompt="trace me", sampling=GREEDY | {"max_tokens": 4})
        for name in (b"replica small", b"queue", b"prefill", b"decode"):
            await eventually(lambda name=name: any(name in payload for payload in payloads))


@pytest.mark.slow
async def test_a_replica_survives_a_restart_of_the_bus(small_store, tmp_path):
    store, digest = small_store
    with NatsServer() as server:
        bus = await connect(server.url, name="test")
        client = FrameClient(bus)
        await client.start()
        async with replica_process(bus, server.url, store, tmp_path / "cache", digest) as replica:
            await replica.until(ReplicaState.READY)
            server.kill()
            server.start()

            async def answers():
                try:
                    return await client.ask(
                        replica.id, prompt="again", sampling=GREEDY | {"max_tokens": 4}, timeout=5
                    )
                except (Unavailable, DeadlineExceeded, TimeoutError):
                    return None

            await eventually(answers, 30)
            assert (await replica.until(ReplicaState.READY)).state is ReplicaState.READY
            assert await replica.stop() == 0
        await bus.drain()


@pytest.mark.parametrize("additional_properties", ["closed", "open"])
async def test_its_option_says_whether_objects_have_properties_that_no_schema_names(
    start_replica, client, additional_properties
):
    named = Grammar(kind="json_schema", value='{"type": "object", "properties": {}}', strict=False)
    other = tuple(token for char in '{"x' for token in Tokenizer(byte_level()).encode(char))
    async with start_replica(additional_properties=additional_properties) as replica:
        await replica.until(ReplicaState.READY)
        asked = client.send(
            replica.id, prompt="go", grammar=named, resume_token_ids=other, sampling={"max_tokens": 8}
        )
        if additional_properties == "open":
            await asked
        else:
            with pytest.raises(InvalidInput):
                await asked
