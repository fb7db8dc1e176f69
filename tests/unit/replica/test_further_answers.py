"""Several answers to one prompt, asked for by one message."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from services.inference.engine.limits import EngineLimits
from shared.contracts.gateway import FinishReason, Frame
from shared.contracts.replica import FurtherAnswer
from shared.errors import Overloaded
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import MemoryReplica, memory_replica, request
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
DRAWN = {"temperature": 1.0, "seed": 1, "prompt_logprobs": 0}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def further(count: int, *, scores: bool = False) -> tuple[FurtherAnswer, ...]:
    return tuple(FurtherAnswer(request_id=f"r-{n}", seed=1 + n, prompt_logprobs=scores) for n in range(1, count))


def tokens(frames: list[Frame]) -> tuple[int, ...]:
    return tuple(token for frame in frames for token in frame.token_ids)


def scores(frames: list[Frame]) -> int:
    return sum(len(frame.prompt_logprobs or ()) for frame in frames)


async def ended(replica: MemoryReplica, request_id: str) -> list[Frame]:
    await replica.last(request_id)
    return replica.frames[request_id]


async def test_each_is_the_answer_that_a_request_alone_gets(stack: AsyncExitStack) -> None:
    replica = await memory_replica(stack, TOKENIZER)
    accepted = await replica.generate(request("r", sampling=DRAWN, further=further(5), return_prompt=True))
    together = {each: await ended(replica, each) for each in ("r", "r-1", "r-2", "r-3", "r-4")}
    assert len({tokens(frames) for frames in together.values()}) > 1
    for n, frames in enumerate(together.values()):
        sampling = {**DRAWN, "seed": 1 + n}
        assert tokens(frames) == tokens(await replica.frames_of(request(f"alone-{n}", sampling=sampling)))
        assert frames[-1].usage is not None
        assert frames[-1].usage.prompt_tokens == accepted.prompt_tokens
    assert [bool(scores(frames)) for frames in together.values()] == [True, False, False, False, False]


async def test_the_prompts_scores_come_with_each_answer_that_asks_for_them(stack: AsyncExitStack) -> None:
    replica = await memory_replica(stack, TOKENIZER)
    accepted = await replica.generate(request("r", sampling=DRAWN, further=further(3, scores=True)))
    for each in ("r", "r-1", "r-2"):
        assert scores(await ended(replica, each)) == accepted.prompt_tokens


async def test_all_are_accepted_or_none_is(stack: AsyncExitStack) -> None:
    replica = await memory_replica(stack, TOKENIZER, slots=1, limits=EngineLimits(max_waiting=4), token_s=0.02)
    with pytest.raises(Overloaded):
        await replica.generate(request("r", sampling={"max_tokens": 40}, further=further(16)))
    assert (await replica.last("r")).finish_reason is FinishReason.CANCELLED
    assert "r-15" not in replica.frames
    assert tokens(await replica.frames_of(request("after")))
