"""A replica with the real model."""

import asyncio

import pytest
import pytest_asyncio

from shared.contracts.scheduler import ReplicaState
from shared.storage.directory import DirectoryStore
from tests.support.harness.embedded import BRIEF
from tests.support.harness.replicas import FrameClient, replica_process, store_version

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SYSTEM = {"role": "system", "content": BRIEF}  # without it, the two likeliest first tokens are nearly equal
GREEDY = {"temperature": 0.0, "max_tokens": 48}


def chat(question):
    return [SYSTEM, {"role": "user", "content": question}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smollm2(smollm2_version, shared_bus, nats_url, tmp_path_factory):
    version, manifest = smollm2_version
    folder = tmp_path_factory.mktemp("node")
    digest = await store_version(DirectoryStore(folder / "store"), version, manifest, "smollm2")
    async with replica_process(
        shared_bus, nats_url, folder / "store", folder / "cache", digest, model="smollm2", slots=16, max_len=512
    ) as process:
        await process.until(ReplicaState.READY, 120)
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_bus):
    client = FrameClient(shared_bus)
    await client.start()
    return client


async def test_the_capital_of_france_is_paris(smollm2, client):
    answer = await client.ask(smollm2.id, messages=chat("What is the capital of France?"), sampling=GREEDY)
    assert "Paris" in answer.text
    assert answer.last.finish_reason == "stop"
    assert "<|im_end|>" not in answer.text


async def test_sixteen_answers_in_one_batch_equal_those_alone(smollm2, client):
    questions = [f"Write a sentence about the number {number}." for number in range(16)]
    sampling = GREEDY | {"max_tokens": 24}
    alone = [await client.ask(smollm2.id, messages=chat(each), sampling=sampling) for each in questions[:6]]
    together = await asyncio.gather(
        *(client.ask(smollm2.id, messages=chat(each), sampling=sampling) for each in questions)
    )
    assert [answer.text for answer in together[:6]] == [answer.text for answer in alone]
    assert len({answer.text for answer in together}) > 8


async def test_a_resumed_answer_equals_the_uninterrupted_one(smollm2, client):
    messages = chat("Tell me a story with many emoji 🦊🐻 in it.")
    sampling = {"temperature": 0.8, "top_p": 0.95, "seed": 3, "max_tokens": 40}
    whole = await client.ask(smollm2.id, messages=messages, sampling=sampling)
    for cut in (1, len(whole.frames) // 2):
        before = whole.frames[:cut]
        tokens = tuple(token for frame in before for token in frame.token_ids)
        rest = await client.ask(smollm2.id, messages=messages, sampling=sampling, resume_token_ids=tokens)
        assert "".join(frame.text for frame in before) + rest.text == whole.text


async def test_a_stop_string_is_not_in_the_text(smollm2, client):
    sampling = GREEDY | {"stop": ("Paris",)}
    answer = await client.ask(smollm2.id, messages=chat("What is the capital of France?"), sampling=sampling)
    assert answer.text.endswith("is ")
    assert answer.last.finish_reason == "stop"
