"""A replica process answers over the bus."""

import asyncio
import time

import pytest
import pytest_asyncio

from shared.bus import rpc
from shared.contracts.base import Empty, Endpoint
from shared.contracts.replica import LoadReport, generate_endpoint, load_subject
from shared.contracts.scheduler import ReplicaState
from shared.errors import ContextLengthExceeded, InvalidInput, NoResponders, Overloaded
from tests.support.harness.replicas import FrameClient
from tests.support.harness.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = {"temperature": 0.0, "ignore_eos": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_bus):
    client = FrameClient(shared_bus)
    await client.start()
    return client


async def loads(bus, replica):
    """Collects the replica's load reports."""
    reports = []

    def take(message):
        reports.append(LoadReport.decode(message.data))

    await bus.subscribe(load_subject(replica.id), take)
    return reports


async def test_a_prompt_is_continued_token_by_token(replica, client):
    answer = await client.ask(replica.id, prompt="The quick", sampling=GREEDY | {"max_tokens": 8})
    assert len(answer.token_ids) == answer.last.usage.completion_tokens == 8
    assert answer.last.finish_reason == "length"
    assert len(answer.frames) == 8
    assert answer.text
    assert answer.last.timings.decode_s > 0


async def test_a_chat_is_answered(replica, client):
    messages = [{"role": "user", "content": "Hello"}]
    answer = await client.ask(replica.id, messages=messages, sampling=GREEDY | {"max_tokens": 4})
    assert answer.last.usage.prompt_tokens > 10


async def test_batched_answers_equal_those_alone(replica, client):
    prompts = [("word " * (1 + 7 * i))[: 40 * i + 5] for i in range(8)]
    sampling = GREEDY | {"max_tokens": 30}
    alone = [await client.ask(replica.id, prompt=prompt, sampling=sampling) for prompt in prompts]
    together = await asyncio.gather(*(client.ask(replica.id, prompt=p, sampling=sampling) for p in prompts))
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


async def test_a_resumed_answer_equals_the_uninterrupted_one(replica, client):
    sampling = {"temperature": 0.9, "seed": 11, "max_tokens": 40, "ignore_eos": True}
    whole = await client.ask(replica.id, prompt="Once upon", sampling=sampling)
    for cut in (1, 7, 20, 39):
        before = whole.frames[:cut]
        tokens = tuple(token for frame in before for token in frame.token_ids)
        rest = await client.ask(replica.id, prompt="Once upon", sampling=sampling, resume_token_ids=tokens)
        assert "".join(frame.text for frame in before) + rest.text == whole.text
        assert tokens + rest.token_ids == whole.token_ids
        assert rest.last.usage == whole.last.usage


async def test_a_stop_string_ends_the_answer(replica, client):
    sampling = GREEDY | {"max_tokens": 60}
    whole = (await client.ask(replica.id, prompt="stop here", sampling=sampling)).text
    stop = whole[10:14]
    answer = await client.ask(replica.id, prompt="stop here", sampling=sampling | {"stop": (stop,)})
    assert answer.text == whole[: whole.index(stop)]
    assert answer.last.finish_reason == "stop"
    assert answer.last.usage.completion_tokens == len(answer.token_ids) < 60


async def test_min_tokens_delays_a_stop_string(replica, client):
    sampling = GREEDY | {"max_tokens": 60}
    whole = await client.ask(replica.id, prompt="stop here", sampling=sampling)
    stop = whole.text[10:12]
    early = await client.ask(replica.id, prompt="stop here", sampling=sampling | {"stop": (stop,)})
    least = len(early.token_ids) + 4
    late = await client.ask(
        replica.id, prompt="stop here", sampling=sampling | {"stop": (stop,), "min_tokens": least}
    )
    begun = "".join(frame.text for frame in whole.frames[:least])
    assert late.text.startswith(begun), "what comes before is text, though the stop string is in it"
    assert stop in begun
    assert late.token_ids == whole.token_ids[: len(late.token_ids)], "it changes no token, only where they end"
    rest = "".join(frame.text for frame in whole.frames[least:])
    assert late.text == begun + rest.partition(stop)[0]
    assert late.last.finish_reason == ("stop" if stop in rest else "length")


async def test_min_tokens_delays_an_ending_token(replica, client):
    sampling = GREEDY | {"max_tokens": 30}
    whole = await client.ask(replica.id, prompt="end here", sampling=sampling)
    cut = next(n for n in range(2, 9) if whole.token_ids[n] not in whole.token_ids[:n])
    ending = whole.token_ids[cut]
    early = await client.ask(replica.id, prompt="end here", sampling=sampling | {"stop_token_ids": (ending,)})
    assert (early.token_ids, early.last.finish_reason) == (whole.token_ids[: cut + 1], "stop")
    late = await client.ask(
        replica.id, prompt="end here", sampling=sampling | {"stop_token_ids": (ending,), "min_tokens": 9}
    )
    assert len(late.token_ids) >= 9
    assert late.token_ids[:cut] == whole.token_ids[:cut]
    assert ending not in late.token_ids[:9], "it is not chosen, so the answer goes on otherwise"


async def test_a_prompts_log_probabilities_come_once_also_when_the_answer_goes_on_elsewhere(replica, client):
    sampling = {
        "temperature": 0.9,
        "seed": 3,
        "max_tokens": 6,
        "ignore_eos": True,
        "logprobs": 1,
        "prompt_logprobs": 1,
    }
    prompt = tuple(range(5, 155))
    whole = await client.ask(replica.id, prompt_token_ids=prompt, sampling=sampling)
    scores = [score for frame in whole.frames for score in frame.prompt_logprobs or ()]
    assert [score.token_id for score in scores] == list(prompt)
    assert [score.logprob is None for score in scores] == [True] + [False] * 149
    rest = await client.ask(
        replica.id, prompt_token_ids=prompt, sampling=sampling, resume_token_ids=whole.token_ids[:2]
    )
    assert not any(frame.prompt_logprobs for frame in rest.frames)
    logprobs = [score for frame in rest.frames for score in frame.logprobs or ()]
    assert logprobs == [score for frame in whole.frames for score in frame.logprobs or ()][2:]


async def test_a_cancelled_request_ends_and_its_slot_is_free(replica, client, shared_bus):
    reports = await loads(shared_bus, replica)
    answer = await client.send(replica.id, prompt="x", sampling=GREEDY | {"max_tokens": 500})
    await client.cancel(replica.id, answer)
    await asyncio.wait_for(answer.ended.wait(), 5)
    answer.check()
    assert answer.last.finish_reason == "cancelled"
    await eventually(lambda: reports and reports[-1].free_slots == 4 and reports[-1].cancelled >= 1)


async def test_cancelling_an_unknown_request_is_no_error(replica, client):
    await client.cancel(replica.id, type("Unknown", (), {"request_id": "unknown"})())


async def test_requests_that_cannot_be_served_are_refused_with_the_reason(replica, client):
    with pytest.raises(ContextLengthExceeded, match="max_tokens is 512: together"):
        await client.send(replica.id, prompt="x " * 100, sampling={"max_tokens": 512})
    with pytest.raises(InvalidInput):
        await client.send(replica.id, prompt_token_ids=(123456,))
    endpoint = Endpoint(generate_endpoint(replica.id).subject, Empty, Empty)
    with pytest.raises(InvalidInput) as caught:
        await rpc.call(client.bus, endpoint, Empty(), timeout=5)
    assert "request_id" in caught.value.message


async def test_a_long_prompt_travels_whole(replica, client):
    with pytest.raises(ContextLengthExceeded, match=r"more than \d{4,} tokens"):
        await client.send(replica.id, prompt="a b " * 500_000, timeout=30)


async def test_a_full_queue_refuses_at_once_and_the_others_are_answered(replica, client):
    sampling = GREEDY | {"max_tokens": 400}
    sent = await asyncio.gather(
        *(client.send(replica.id, prompt="queue", sampling=sampling) for _ in range(100)), return_exceptions=True
    )
    refused = [each for each in sent if isinstance(each, Overloaded)]
    accepted = [each for each in sent if not isinstance(each, BaseException)]
    assert len(refused) + len(accepted) == 100
    assert refused
    assert all(each.retry_after for each in refused)
    for answer in accepted:
        await client.cancel(replica.id, answer)
    for answer in accepted:
        await asyncio.wait_for(answer.ended.wait(), 10)
        answer.check()


async def test_a_request_is_accepted_within_milliseconds_while_others_run(replica, client):
    running = [await client.send(replica.id, prompt="run", sampling=GREEDY | {"max_tokens": 400}) for _ in range(3)]
    begun = time.perf_counter()
    answer = await client.ask(replica.id, prompt="quick", sampling=GREEDY | {"max_tokens": 1})
    assert time.perf_counter() - begun < 2.0  # milliseconds on an idle machine
    assert answer.last.timings.queue_s < 1.0
    for each in running:
        await client.cancel(replica.id, each)
        await asyncio.wait_for(each.ended.wait(), 10)


async def test_the_load_is_reported(replica, client, shared_bus):
    reports = await loads(shared_bus, replica)
    await asyncio.gather(
        *(client.ask(replica.id, prompt="load", sampling=GREEDY | {"max_tokens": 50}) for _ in range(4))
    )
    await eventually(lambda: reports and reports[-1].running == 0 and reports[-1].max_batch == 4)
    last = reports[-1]
    assert (last.replica_id, last.deployment, last.slots, last.max_len) == (replica.id, "small", 4, 512)
    assert not last.draining
    assert last.generated_tokens >= 200


async def test_the_record_says_ready_and_what_is_served(replica):
    status = await replica.status()
    assert (status.state, status.node, status.model, status.version) == (ReplicaState.READY, "node-a", "small", 1)


async def test_a_replica_that_does_not_exist_has_no_responder(client):
    with pytest.raises(NoResponders):
        await client.send("no-such-replica", prompt="x")
