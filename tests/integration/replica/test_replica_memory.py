"""A replica stays within the memory that its manifest asks for, says when it does not, and leaves nothing behind."""

import asyncio
import fcntl
import itertools
import json
import os
from pathlib import Path

import psutil
import pytest

from shared.contracts.manifest import Manifest
from shared.contracts.replica import Grammar
from shared.contracts.scheduler import ReplicaState
from shared.errors import Overloaded
from shared.storage.directory import DirectoryStore
from tests.support.harness.replicas import replica_process, store_version
from tests.support.harness.wait import eventually

SAMPLED = {"temperature": 0.9, "top_p": 0.9, "top_k": 40, "ignore_eos": True}


def peak(pid: int) -> int:
    """The most bytes that a process and its helpers had resident, each at its own peak."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    status = [Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1] for process in processes]
    return sum(int(text.split()[0]) * 1024 for text in status)


def mapped(pid: int) -> str:
    """All that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text()


async def fill(replica, client, *, slots: int, max_len: int, vocab: int) -> None:
    """Give every slot as many tokens as it holds, all at once, with prompts that share nothing."""
    prompts = [tuple(3 + (7 * index + slot) % (vocab - 3) for index in range(max_len - 8)) for slot in range(slots)]
    answers = await asyncio.gather(
        *(
            client.ask(
                replica.id, prompt_token_ids=prompt, sampling=SAMPLED | {"max_tokens": 8, "seed": slot}, timeout=240
            )
            for slot, prompt in enumerate(prompts)
        )
    )
    assert all(answer.last.usage.completion_tokens == 8 for answer in answers)


def schema(name: int) -> Grammar:
    """The JSON of a record; each has properties of its own."""
    kinds = ("string", "integer", "number", "boolean")
    properties = {f"field_{name}_{index}": {"type": kinds[index % 4]} for index in range(12)}
    value = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return Grammar(kind="json_schema", value=json.dumps(value))


async def structure(replica, client, *, answers: int, max_tokens: int) -> int:
    """Ask for answers that each match a schema of their own; how many bytes that takes for good."""

    async def answered(name: int) -> bool:
        sampling = {"temperature": 0.9, "seed": name, "max_tokens": max_tokens}
        prompt = f"record {name}"
        try:
            await client.ask(replica.id, prompt=prompt, grammar=schema(name), sampling=sampling, timeout=240)
        except Overloaded:  # on a busy machine the process that compiles gets little of it
            return False
        return True

    before = family(replica.process.pid)
    for start in range(0, answers, 8):
        names = range(start, start + 8)
        await asyncio.gather(*(eventually(lambda name=name: answered(name), timeout=240) for name in names))
    return family(replica.process.pid) - before


def family(pid: int) -> int:
    """Bytes that a process and its helpers have resident."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in processes)


async def test_full_slots_and_a_full_prefix_cache_stay_within_the_need(small_store, start_replica, client):
    store, _ = small_store
    manifest = Manifest.decode(await DirectoryStore(store).get_manifest("small", 1))
    cache = 8 << 20
    need = manifest.memory.replica_bytes(slots=8, max_len=512, prefix_cache=cache)
    async with start_replica(slots=8, max_len=512, memory=need, prefix_cache=cache) as replica:
        await replica.until(ReplicaState.READY)
        for _ in range(2):
            await fill(replica, client, slots=8, max_len=512, vocab=manifest.the_decoder.vocab_size)
        grown = await structure(replica, client, answers=64, max_tokens=40)
        assert grown <= manifest.memory.grammars, f"{grown >> 20} MiB of {manifest.memory.grammars >> 20}"
        used = peak(replica.process.pid)
        assert used <= need, f"{used >> 20} MiB of {need >> 20}"
        status = await replica.status()
        assert status.message == ""
        assert "memory.above_grant" not in replica.log.read_text()


async def test_a_replica_above_its_grant_goes_on_and_says_so(start_replica, client):
    async with start_replica(memory=50 << 20) as replica:
        await replica.until(ReplicaState.READY)

        async def reported():
            return "above its grant" in (await replica.status()).message

        await eventually(reported)
        status = await replica.status()
        assert status.memory > 50 << 20
        assert status.state is ReplicaState.READY
        answer = await client.ask(replica.id, prompt="still here", sampling=SAMPLED | {"max_tokens": 4})
        assert len(answer.token_ids) == 4
        assert "memory.above_grant" in replica.log.read_text()


async def test_nothing_is_left_of_a_replica_that_was_unloaded(start_replica, client, tmp_path):
    async with start_replica() as replica:
        await replica.until(ReplicaState.READY)
        await client.ask(replica.id, messages=[{"role": "user", "content": "Hello"}], sampling={"max_tokens": 4})
        pid = replica.process.pid
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert len(family) > 1, "its template process is part of the test"
        # Memory shared by name would outlive them.
        assert not any("/dev/shm" in mapped(each) for each in family)
        assert await replica.stop() == 0
    await eventually(lambda: not any(psutil.pid_exists(each) for each in family))
    # The folder of its version stays in the cache; no process uses it, so the next start may remove it.
    (folder,) = (path for path in (tmp_path / "cache" / "versions").iterdir() if path.is_dir())
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_real_model_stays_within_its_need(smollm2_version, bus, nats_url, client, tmp_path):
    folder, manifest = smollm2_version
    digest = await store_version(DirectoryStore(tmp_path / "store"), folder, manifest, "smollm2")
    slots, max_len, cache = 3, 512, 32 << 20
    need = manifest.memory.replica_bytes(slots=slots, max_len=max_len, prefix_cache=cache)
    async with replica_process(
        bus, nats_url, tmp_path / "store", tmp_path / "cache", digest,
        model="smollm2", slots=slots, max_len=max_len, memory=need, prefix_cache=cache,
    ) as replica:  # fmt: skip
        await replica.until(ReplicaState.READY, 120)
        first = psutil.Process(replica.process.pid).memory_info().rss
        await fill(replica, client, slots=slots, max_len=max_len, vocab=manifest.the_decoder.vocab_size)
        grown, part = await structure(replica, client, answers=24, max_tokens=24), manifest.memory.grammars
        assert 0.3 * part <= grown <= part, f"structured output takes {grown >> 20} MiB of {part >> 20}"
        used = peak(replica.process.pid)
        assert used <= need, f"{used >> 20} MiB of {need >> 20}"
        assert used >= 0.7 * need, f"{used >> 20} MiB of {need >> 20}: too much is asked for"

        def slots_are_given_back():  # the cache keeps its part
            return psutil.Process(replica.process.pid).memory_info().rss < first + cache + (24 << 20)

        await eventually(slots_are_given_back)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_thousands_of_requests_over_the_bus_leave_a_replicas_memory_as_it_was(start_replica, client):
    async with start_replica(slots=16, max_len=128, prefix_cache=1 << 20) as replica:
        await replica.until(ReplicaState.READY)
        process, sizes = psutil.Process(replica.process.pid), []
        for part in range(4):
            for wave in range(22):  # of fewer requests than one tenant may have in the queue
                await asyncio.gather(*(mixed(replica, client, 1000 * part + 32 * wave + each) for each in range(32)))
            sizes.append(process.memory_info().rss)
        grown = [(after - before) >> 10 for before, after in itertools.pairwise(sizes)]
        assert sizes[-1] - sizes[1] < 6 << 20, f"KiB per 704 requests: {grown}"


async def mixed(replica, client, number: int) -> None:
    """One of several kinds of requests."""
    sampling = {"max_tokens": 1 + number % 4, "temperature": 0.8 * (number % 2), "seed": number, "stop": ("zzzz",)}
    if number % 3 == 0:
        messages = [{"role": "user", "content": f"Question {number % 7}"}]
        await client.ask(replica.id, messages=messages, sampling=sampling)
    elif number % 10 == 1:
        answer = await client.send(replica.id, prompt="to be cancelled", sampling=sampling | {"max_tokens": 60})
        await client.cancel(replica.id, answer)
        await asyncio.wait_for(answer.ended.wait(), 30)
    else:
        await client.ask(replica.id, prompt=f"word {number % 11} " * 4, sampling=sampling)
