"""What reaches clients of prefix cache, tenants and overload."""

import asyncio

from shared.errors import Overloaded
from tests.integration.gateway.conftest import MODEL, Stand
from tests.integration.gateway.test_gateway_chat import events
from tests.support.harness.wait import eventually


async def test_usage_has_the_cached_tokens_of_the_prompt(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.cached_tokens = 2
    chat = (await stand.chat()).json()["usage"]
    streamed = events((await stand.chat(stream=True, stream_options={"include_usage": True})).text)[-1]["usage"]
    body = {"model": MODEL, "prompt": ["one two three", "four five six"], "max_tokens": 2}
    completions = (await stand.client.post("/v1/completions", json=body)).json()["usage"]
    assert [usage["prompt_tokens_details"]["cached_tokens"] for usage in (chat, streamed, completions)] == [2, 2, 4]
    metrics = (await stand.client.get("/metrics")).text
    assert f'llmos_cached_tokens_total{{model="{MODEL}"}} 8.0' in metrics
    assert "llmos_replica_wait_seconds" in metrics


async def test_the_replica_learns_whose_request_it_is_and_its_cache_salt(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    key = (await stand.client.post("/llmos/v1/keys", json={"name": "team", "scopes": ["inference"]})).json()
    body = {"model": MODEL, "prompt": "one", "max_tokens": 1, "cache_salt": "ours"}
    headers = {"authorization": f"Bearer {key['key']}"}
    assert (await stand.client.post("/v1/completions", json=body, headers=headers)).status_code == 200
    await stand.chat()
    first, second = replica.received
    assert (first.tenant, first.cache_salt) == (key["id"], "ours")
    assert second.tenant not in ("", key["id"])
    assert second.cache_salt == ""


async def test_a_replica_that_is_full_is_not_asked_by_every_request(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica()
    replica.rejection = Overloaded("full", retry_after=7)
    answers = [await stand.chat() for _ in range(20)]
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(429, "7")}
    assert len(replica.received) < 20
    replica.rejection = None
    async with asyncio.timeout(10):
        while (await stand.chat()).status_code != 200:
            pass


async def test_at_four_times_what_a_replica_takes_every_request_is_served_or_refused_with_retry_after(
    stand: Stand,
) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.1)
    replica.most = 8
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(stand.chat(stream=bool(index % 2), max_tokens=8) for index in range(32)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 8
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"2"}
    await eventually(lambda: replica.running == 0)
    assert (await stand.chat()).status_code == 200
