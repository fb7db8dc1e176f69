"""`/llmos/v1/events` on a real gateway and a real bus, and changes that are refused because nothing records them."""

import asyncio
import json

import httpx

from shared.bus.connect import connect
from shared.contracts.events import KEY_EVENTS
from tests.integration.gateway.conftest import Stand
from tests.support.harness.wait import eventually

EVENTS = "/llmos/v1/events"


async def made_key(stand: Stand, name: str) -> str:
    answer = await stand.client.post("/llmos/v1/keys", json={"name": name, "scopes": ["inference"]})
    assert answer.status_code == 200, answer.text
    made: str = answer.json()["id"]
    return made


async def key_ids(stand: Stand) -> list[str]:
    return [key["id"] for key in (await stand.client.get("/llmos/v1/keys")).json()["keys"]]


async def test_a_change_names_the_key_the_process_the_node_and_the_trace(stand: Stand) -> None:
    answer = await stand.client.post("/llmos/v1/keys", json={"name": "laptop", "scopes": ["inference"]})
    listed = (await stand.client.get(EVENTS, params={"kind": "key", "limit": 1})).json()["events"]
    (event,) = listed
    assert (event["kind"], event["name"], event["service"]) == ("key.created", answer.json()["id"], "keys")
    assert event["trace_id"] == answer.headers["x-trace-id"]
    assert event["by"].startswith("key-")
    assert event["node"]
    assert event["actor"]
    assert event["record"] == f"LLMOS_TENANTS/{answer.json()['id']}"
    assert (event["before"], len(event["after"])) == (None, 64)


async def test_filters_and_what_is_wrong_with_one(stand: Stand) -> None:
    name = await made_key(stand, "filtered")
    found = (await stand.client.get(EVENTS, params={"name": name, "since": 60, "service": "keys"})).json()["events"]
    assert [event["name"] for event in found] == [name]
    assert (await stand.client.get(EVENTS, params={"name": name, "until": 60})).json()["events"] == []
    wrong = {
        "service": "nobody",
        "since": "yesterday",
        "limit": "0",
        "after": "x",
        "follow": "maybe",
        "whom": "key-1",
    }
    for parameter, value in wrong.items():
        answer = await stand.client.get(EVENTS, params={parameter: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter)


async def test_events_need_the_scope_to_read(stand: Stand) -> None:
    made = await stand.client.post("/llmos/v1/keys", json={"name": "app", "scopes": ["inference"]})
    async with httpx.AsyncClient(base_url=stand.url) as stranger:
        assert (await stranger.get(EVENTS)).status_code == 401
        headers = {"Authorization": f"Bearer {made.json()['key']}"}
        assert (await stranger.get(EVENTS, headers=headers)).status_code == 403


async def test_a_follower_hears_of_a_change_and_goes_on_behind_it(stand: Stand) -> None:
    first = await made_key(stand, "first")

    async def next_event(lines, name: str) -> dict:
        async for line in lines:
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                if event["name"] == name:
                    return event
        raise AssertionError("the stream ended")

    async with asyncio.timeout(20):
        async with stand.client.stream("GET", EVENTS, params={"follow": "true", "kind": "key"}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.aiter_lines()
            await next_event(lines, first)
            second = await made_key(stand, "second")
            cursor = (await next_event(lines, second))["id"]
        third = await made_key(stand, "third")
        async with stand.client.stream("GET", EVENTS, params={"after": cursor, "kind": "key"}) as stream:
            lines = stream.aiter_lines()
            async for line in lines:
                if line.startswith("data: {"):
                    assert json.loads(line.removeprefix("data: "))["name"] == third
                    break


async def test_refused_logins_are_summed_and_push_out_nothing(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as stranger:
        statuses = {(await stranger.get(EVENTS)).status_code for _ in range(30)}
    assert statuses == {401}

    async def summed() -> int:
        found = (await stand.client.get(EVENTS, params={"kind": "login.refused"})).json()["events"]
        return sum(int(event["detail"]["count"]) for event in found)

    async def all_counted() -> bool:
        return await summed() >= 30

    await eventually(all_counted, timeout=25)


async def test_the_check_of_all_chains_passes_and_then_names_a_gap(stand: Stand) -> None:
    for name in ("one", "two", "three"):
        await made_key(stand, name)
    sound = (await stand.client.get(f"{EVENTS}/verify")).json()
    assert [chain["findings"] for chain in sound["chains"] if chain["findings"]] == []
    keys = next(chain for chain in sound["chains"] if chain["chain"] == "keys")
    owner = await connect(stand.nats.url, name="owner", owner=True)
    stream = owner.stream(
        KEY_EVENTS.name, [KEY_EVENTS.subjects], max_bytes=KEY_EVENTS.max_bytes, max_age=KEY_EVENTS.max_age
    )
    (position, _), _ = await stream.last(2)
    await owner._jetstream.manager.delete_msg(KEY_EVENTS.name, position)  # type: ignore[attr-defined]
    await owner.drain()
    heads = f"keys:{keys['last']}:{keys['digest']}"
    found = (await stand.client.get(f"{EVENTS}/verify", params={"heads": heads})).json()
    broken = next(chain for chain in found["chains"] if chain["chain"] == "keys")
    assert broken["findings"] == [f"event {keys['last'] - 1} is missing"]
    refused = await stand.client.get(f"{EVENTS}/verify", params={"heads": "keys:1:short"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "heads")


async def test_a_key_that_nothing_records_is_not_made(stand: Stand) -> None:
    owner = await connect(stand.nats.url, name="owner", owner=True)
    await owner._jetstream.manager.delete_stream(KEY_EVENTS.name)  # type: ignore[attr-defined]
    try:
        before = await key_ids(stand)
        body = {"name": "unrecorded", "scopes": ["admin"]}
        answer = await stand.client.post("/llmos/v1/keys", json=body, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_recorded")
        assert "its event can't be stored" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "1"
        assert await key_ids(stand) == before
        again = owner.stream(
            KEY_EVENTS.name, [KEY_EVENTS.subjects], max_bytes=KEY_EVENTS.max_bytes, max_age=KEY_EVENTS.max_age
        )
        await again.last(0)
        await made_key(stand, "recorded")
    finally:
        await owner.drain()
