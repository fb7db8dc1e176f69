"""Log probabilities of an echoed prompt when its replica is lost: those of an answer that was never interrupted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.gateway.conftest import MODEL, Stand
from tests.integration.gateway.test_gateway_chat import events
from tests.integration.gateway.test_gateway_resume import two
from tests.support.fakes.scripted_replica import ScriptedReplica
from tests.support.fakes.scripted_tokens import expected_text, prompt_scores
from tests.support.harness.wait import eventually

PROMPT = "one two three four five six seven"
COUNT = 3
LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def body(**changes: object) -> dict[str, object]:
    asked = {"model": MODEL, "prompt": PROMPT, "seed": 7, "echo": True, "logprobs": 0, "max_tokens": COUNT}
    return {**asked, **changes}


async def whole(stand: Stand, **changes: object) -> dict[str, Any]:
    answer = await stand.client.post("/v1/completions", json=body(**changes))
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    return choice


async def streamed(stand: Stand, **changes: object) -> dict[str, Any]:
    """The choice that a stream's chunks make together."""
    answer = await stand.client.post("/v1/completions", json=body(stream=True, **changes))
    pieces = [chunk["choices"][0] for chunk in events(answer.text)]
    listed = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
    return {
        "text": "".join(piece["text"] for piece in pieces),
        "logprobs": {name: [each for one in listed for each in one[name]] for name in LISTS},
        "finish_reason": pieces[-1]["finish_reason"],
    }


@pytest.fixture
async def pair(stand: Stand) -> AsyncIterator[tuple[ScriptedReplica, ScriptedReplica]]:
    """The replica that is asked first, and the other; the agent tells when the first has died."""
    first, second = await two(stand)

    async def agent() -> None:
        await eventually(lambda: not first.bus.connected, 60)
        await stand.report_failed(first)

    task = asyncio.create_task(agent())
    yield first, second
    task.cancel()


async def test_without_a_loss_there_is_one_for_each_token_of_prompt_and_answer(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    choice = await whole(stand)
    logprobs = choice["logprobs"]
    assert choice["text"] == PROMPT + expected_text(PROMPT, 7, COUNT) == "".join(logprobs["tokens"])
    expected = [score.logprob for score in prompt_scores(PROMPT)]
    assert logprobs["token_logprobs"][:-COUNT] == expected
    assert len(set(expected)) == len(expected), "each place has a value of its own: a mix-up shows"
    unread = {name: choice[name] for name in ("text", "logprobs", "finish_reason")}
    assert await streamed(stand) == unread


@pytest.mark.parametrize("max_tokens", [0, COUNT])
@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("frames", [1, 3])
async def test_a_replica_killed_between_them_leaves_neither_holes_nor_doubles(
    stand: Stand, pair: tuple[ScriptedReplica, ScriptedReplica], ask: Any, frames: int, max_tokens: int
) -> None:
    first, second = pair
    first.die_after_scores = frames
    interrupted = await ask(stand, max_tokens=max_tokens)
    assert len(first.received) == len(second.received) == 1
    assert interrupted == await ask(stand, max_tokens=max_tokens)
    assert len(interrupted["logprobs"]["tokens"]) == len(PROMPT.split()) + max_tokens


@pytest.mark.parametrize("max_tokens", [0, COUNT])
@pytest.mark.parametrize("missing", [[0], [2], [3], [3, 1], [1, 3, 2]])
async def test_lost_frames_leave_neither_holes_nor_doubles_however_often_it_begins_anew(
    stand: Stand, missing: list[int], max_tokens: int
) -> None:
    await stand.deploy()
    replica = await stand.replica()
    alone = await streamed(stand, max_tokens=max_tokens)
    replica.received.clear()
    replica.skip_scores = list(missing)
    assert await streamed(stand, max_tokens=max_tokens) == alone
    assert len(replica.received) == 1 + len(missing)


@pytest.mark.parametrize("ask", [whole, streamed])
async def test_a_replica_lost_within_the_answer_returns_those_of_the_prompt_once(
    stand: Stand, pair: tuple[ScriptedReplica, ScriptedReplica], ask: Any
) -> None:
    first, second = pair
    first.die_at = 1
    interrupted = await ask(stand)
    assert len(second.received[0].resume_token_ids) == 1
    assert interrupted == await ask(stand)


async def test_without_another_replica_the_answer_is_an_error_and_no_part_of_them(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.die_after_scores = 2

    async def agent() -> None:
        await eventually(lambda: not replica.bus.connected)
        await stand.report_failed(replica)

    answer, _ = await asyncio.gather(stand.client.post("/v1/completions", json=body()), agent())
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "replica_lost"
    assert "choices" not in answer.json()


async def test_prompt_logprobs_stand_beside_the_choices_of_a_chat_and_in_those_of_a_completion(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    expected = [
        None
        if score.logprob is None
        else {str(score.token_id): {"logprob": score.logprob, "rank": score.rank, "decoded_token": score.text}}
        for score in prompt_scores(PROMPT)
    ]
    answer = await stand.chat(messages=[{"role": "user", "content": PROMPT}], prompt_logprobs=0, n=2)
    assert answer.json()["prompt_logprobs"] == expected
    assert [choice["logprobs"] for choice in answer.json()["choices"]] == [None, None]
    asked = {"model": MODEL, "prompt": [PROMPT, "one two"], "prompt_logprobs": 0, "n": 2, "max_tokens": 1}
    choices = (await stand.client.post("/v1/completions", json=asked)).json()["choices"]
    assert [choice["prompt_logprobs"] for choice in choices] == [expected] * 2 + [expected[:2]] * 2
    assert [choice["logprobs"] for choice in choices] == [None] * 4
    assert all(PROMPT not in choice["text"] for choice in choices)
    computed = [each.sampling.prompt_logprobs for sent in replica.received for each in sent.answers()]
    assert computed.count(0) == 3, "once for each prompt"
    assert computed.count(None) == 3
    plain = await stand.chat()
    assert "prompt_logprobs" not in plain.json()


async def test_prompt_logprobs_of_a_replica_that_is_lost_have_neither_holes_nor_doubles(
    stand: Stand, pair: tuple[ScriptedReplica, ScriptedReplica]
) -> None:
    first, second = pair
    first.die_after_scores = 2
    answer = await stand.chat(messages=[{"role": "user", "content": PROMPT}], prompt_logprobs=0)
    assert len(first.received) == len(second.received) == 1
    assert len(answer.json()["prompt_logprobs"]) == len(PROMPT.split())
    again = await stand.chat(messages=[{"role": "user", "content": PROMPT}], prompt_logprobs=0)
    assert answer.json()["prompt_logprobs"] == again.json()["prompt_logprobs"]
