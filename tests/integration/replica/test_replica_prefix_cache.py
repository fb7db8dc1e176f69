"""A replica process with a prefix cache in its grant."""

import pytest

from shared.contracts.load import LoadReport, load_subject
from shared.contracts.scheduler import ReplicaState
from tests.support.harness.wait import eventually

PROMPT = tuple(3 + (7 * index) % 90 for index in range(200))
SAMPLING = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 12}


@pytest.mark.timeout(180)
async def test_a_second_prompt_copies_what_the_first_computed_and_answers_the_same(bus, start_replica, client):
    reports: list[LoadReport] = []

    def take(message):
        reports.append(LoadReport.decode(message.data))

    async with start_replica(max_len=256, prefix_cache=1 << 20) as replica:
        await replica.until(ReplicaState.READY)
        await bus.subscribe(load_subject(replica.id), take)
        first = await client.ask(replica.id, prompt_token_ids=PROMPT, sampling=SAMPLING)
        second = await client.ask(replica.id, prompt_token_ids=PROMPT, sampling=SAMPLING)
        salted = await client.ask(replica.id, prompt_token_ids=PROMPT, sampling=SAMPLING, cache_salt="mine")
        assert second.token_ids == first.token_ids == salted.token_ids
        cached = [answer.last.usage.cached_tokens for answer in (first, second, salted)]
        assert cached == [0, 192, 0]
        await eventually(lambda: reports and reports[-1].load.counters.cached_tokens == 192)
        assert reports[-1].load.counters.looked_up_tokens == 600
        assert 0 < reports[-1].load.cached_blocks <= reports[-1].load.cache_blocks
