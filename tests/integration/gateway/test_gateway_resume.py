"""A replica that is lost in mid-answer: the stream is the stream that it would have been."""

import asyncio

import httpx
import pytest

from services.gateway.dispatch import loss
from services.gateway.routing import table
from shared.errors import Draining, ReplicaLost
from tests.integration.gateway.conftest import Stand
from tests.integration.gateway.test_gateway_chat import events
from tests.support.fakes.scripted_replica import ScriptedReplica
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.wait import eventually

COUNT = 11
WHOLE = expected_text("tell me words", 7, COUNT)


async def streamed(stand: Stand, **body: object) -> tuple[str, dict]:
    answer = await stand.chat(stream=True, max_tokens=COUNT, stream_options={"include_usage": True}, **body)
    assert answer.status_code == 200, answer.text
    chunks = events(answer.text)
    assert "error" not in chunks[-1], chunks[-1]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    return text, chunks[-1]["usage"]


async def two(stand: Stand) -> tuple[ScriptedReplica, ScriptedReplica]:
    await stand.deploy(replicas=2)
    first = await stand.replica("sample-1-a")
    second = await stand.replica("sample-1-b")
    second.queued_tokens = 1000
    await second.heartbeat()

    async def first_is_preferred() -> bool:
        before = len(first.received)
        await stand.chat(max_tokens=1)
        return len(first.received) == before + 1

    await eventually(first_is_preferred)
    first.received.clear()
    second.received.clear()
    return first, second


@pytest.mark.parametrize("position", [1, 4, 5, COUNT - 1])
async def test_a_killed_replicas_stream_goes_on_on_another(stand: Stand, position: int) -> None:
    first, second = await two(stand)
    first.die_at = position

    async def agent() -> None:
        await eventually(lambda: not first.bus.connected)
        await stand.report_failed(first)

    (text, usage), _ = await asyncio.gather(streamed(stand), agent())
    assert text == WHOLE
    assert usage["completion_tokens"] == COUNT
    assert len(second.received[-1].resume_token_ids) == position
    assert second.received[-1].sampling.seed == first.received[-1].sampling.seed


async def test_a_missing_frame_makes_the_answer_go_on_without_a_hole(stand: Stand) -> None:
    first, _ = await two(stand)
    first.skip_token = 5
    text, usage = await streamed(stand)
    assert text == WHOLE
    assert usage["completion_tokens"] == COUNT
    assert first.cancelled == [first.received[0].request_id], "the replica that goes on with a hole is stopped"


@pytest.mark.parametrize("error", [Draining("I go"), ReplicaLost("the engine died")])
async def test_a_replica_that_gives_up_hands_over(stand: Stand, error: Draining | ReplicaLost) -> None:
    first, _ = await two(stand)
    first.fail_at = (3, error)
    text, _ = await streamed(stand)
    assert text == WHOLE


async def test_an_answer_without_a_stream_is_resumed_too(stand: Stand) -> None:
    first, _ = await two(stand)
    first.skip_token = 2
    answer = await stand.chat(max_tokens=COUNT)
    assert answer.json()["choices"][0]["message"]["content"] == WHOLE


async def test_a_lost_last_frame_is_noticed_from_the_load_reports(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.omit_last = True
    text, usage = await streamed(stand)
    assert text == WHOLE
    assert usage["completion_tokens"] == COUNT
    assert len(replica.received) == 2


async def test_a_silent_replica_is_left_after_the_heartbeats_time(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two(stand)
    for module in (loss, table):
        monkeypatch.setattr(module, "LEASE_TTL_S", 0.5)
    first.token_delay = 0.05
    before = first.steps
    task = asyncio.create_task(streamed(stand))
    await eventually(lambda: first.steps >= before + 3)
    first.silent = True
    text, _ = await task
    assert text == WHOLE
    assert second.received[-1].resume_token_ids


async def test_a_replica_that_has_stalled_is_left_and_not_asked_until_it_goes_on(stand: Stand) -> None:
    first, second = await two(stand)
    first.token_delay = 0.02
    before = first.steps
    task = asyncio.create_task(streamed(stand))
    await eventually(lambda: first.steps >= before + 3)
    first.stalled = True
    text, usage = await task
    assert text == WHOLE
    assert usage["completion_tokens"] == COUNT
    assert second.received[-1].resume_token_ids
    assert first.cancelled == [first.received[0].request_id]
    asked = len(first.received)
    await streamed(stand)
    assert len(first.received) == asked, "new requests go elsewhere, too"
    first.stalled = False

    async def is_asked_again() -> bool:
        await stand.chat(max_tokens=1)
        return len(first.received) > asked

    await eventually(is_asked_again)


async def test_a_single_replica_that_restarts_goes_on_itself(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.02)
    task = asyncio.create_task(streamed(stand))
    await eventually(lambda: replica.running == 1)
    await replica.die()
    await stand.report_failed(replica)
    again = await stand.replica(token_delay=0.001)
    text, _ = await task
    assert text == WHOLE
    assert again.received[-1].request_id != replica.received[-1].request_id, "late frames can't be mistaken"


async def test_without_another_replica_the_stream_ends_with_an_error_after_the_wait(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.02)
    task = asyncio.create_task(stand.chat(stream=True, max_tokens=COUNT))
    await eventually(lambda: replica.running == 1)
    await replica.die()
    await stand.report_failed(replica)
    answer: httpx.Response = await task
    error = events(answer.text)[-1]["error"]
    assert error["code"] == "replica_lost"
    assert "killed by signal 9" in error["message"]


async def test_a_request_that_kills_every_replica_is_given_up(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()

    async def poison() -> None:
        while True:
            if replica.fail_at is None:
                replica.fail_at = (2, ReplicaLost("crashed"))
            await asyncio.sleep(0)

    task = asyncio.create_task(poison())
    answer = await stand.chat(max_tokens=COUNT)
    task.cancel()
    assert answer.status_code == 503
    assert "at the same token" in answer.json()["error"]["message"]
    assert len(replica.received) == 4


@pytest.mark.parametrize("gateway_settings", [{"request_timeout": 0.4}])
async def test_the_deadline_ends_an_answer_with_504_and_frees_the_slot(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.05)
    answer = await stand.chat(max_tokens=10_000)
    assert answer.status_code == 504
    await eventually(lambda: replica.running == 0)
    streamed_answer = await stand.chat(max_tokens=10_000, stream=True)
    assert events(streamed_answer.text)[-1]["error"]["code"] == "deadline_exceeded"
