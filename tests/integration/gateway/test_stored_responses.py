"""What is stored of responses and conversations, and whose it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest

from services.gateway.openai.responses.ids import new_id
from shared.contracts.gateway import FinishReason, GeneratedToolCall
from shared.contracts.response import RESPONSES_BUCKET, StoredRecord
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand
from tests.support.fakes.scripted_replica import ScriptedReplica
from tests.support.fakes.spoken_frames import spoken
from tests.support.harness.wait import eventually

CALL = GeneratedToolCall(index=0, id="call_1", name="now", arguments="{}")


@pytest.fixture
async def replica(stand: Stand) -> ScriptedReplica:
    await stand.deploy()
    replica = await stand.replica()
    replica.said = spoken("Fine", ".")
    return replica


async def respond(stand: Stand, input: object = "Hello?", **body: object) -> dict[str, Any]:  # noqa: A002
    answer = await stand.client.post("/v1/responses", json={"model": MODEL, "input": input, **body})
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()
    return response


def texts(replica: ScriptedReplica) -> list[str]:
    return [message.content for message in replica.received[-1].messages or ()]


@asynccontextmanager
async def other_key(stand: Stand, **options: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key of its own."""
    made = (await stand.client.post("/llmos/v1/keys", json={"name": "other", **options})).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    async with httpx.AsyncClient(base_url=stand.url, headers=headers, timeout=20) as client:
        yield client


async def keys_of(stand: Stand, stored_id: str) -> list[str]:
    return [entry.key for entry in await stand.bus.kv(RESPONSES_BUCKET).entries() if stored_id in entry.key]


async def test_a_response_can_be_read_again_and_deleted(stand: Stand, replica: ScriptedReplica) -> None:
    response = await respond(stand)
    path = f"/v1/responses/{response['id']}"
    assert (await stand.client.get(path)).json() == response
    items = (await stand.client.get(f"{path}/input_items")).json()
    assert items["data"][0]["content"] == [{"type": "input_text", "text": "Hello?"}]
    assert (items["has_more"], items["first_id"]) == (False, items["data"][0]["id"])
    assert (await stand.client.delete(path)).json() == {"id": response["id"], "object": "response", "deleted": True}
    for answer in (await stand.client.get(path), await stand.client.delete(path)):
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "response_id")
    assert await keys_of(stand, response["id"]) == []


async def test_a_streamed_response_is_stored_when_its_last_event_comes(
    stand: Stand, replica: ScriptedReplica
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        async for event in await client.responses.create(model=MODEL, input="Hello?", stream=True):
            if event.type == "response.completed":
                stored = await client.responses.retrieve(event.response.id)
                assert stored.output_text == event.response.output_text == "Fine."


async def test_store_false_stores_nothing(stand: Stand, replica: ScriptedReplica) -> None:
    response = await respond(stand, store=False)
    assert response["store"] is False
    assert (await stand.client.get(f"/v1/responses/{response['id']}")).status_code == 404
    assert await keys_of(stand, response["id"]) == []


async def test_a_response_continues_another(stand: Stand, replica: ScriptedReplica) -> None:
    first = await respond(stand, "One?", instructions="Count.")
    second = await respond(stand, "Two?", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    assert texts(replica) == ["One?", "Fine.", "Two?"]  # instructions are not carried over
    await respond(stand, "Three?", previous_response_id=second["id"], instructions="Go on.")
    assert texts(replica) == ["Go on.", "One?", "Fine.", "Two?", "Fine.", "Three?"]
    page = await stand.client.get(f"/v1/responses/{second['id']}/input_items?order=asc&limit=2")
    items = page.json()
    assert [item["role"] for item in items["data"]] == ["user", "assistant"]
    assert items["has_more"]
    after = f"/v1/responses/{second['id']}/input_items?order=asc&after={items['last_id']}"
    assert [item["content"][0]["text"] for item in (await stand.client.get(after)).json()["data"]] == ["Two?"]


async def test_a_response_that_was_deleted_in_between_can_not_be_continued(
    stand: Stand, replica: ScriptedReplica
) -> None:
    first = await respond(stand, "One?")
    second = await respond(stand, "Two?", previous_response_id=first["id"])
    await stand.client.delete(f"/v1/responses/{first['id']}")
    count = len(replica.received)
    body = {"model": MODEL, "input": "x", "previous_response_id": first["id"]}
    for stream in (False, True):
        answer = await stand.client.post("/v1/responses", json={**body, "stream": stream})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "previous_response_id")
    assert len(replica.received) == count
    await respond(stand, "Three?", previous_response_id=second["id"])  # it has all that came before
    assert texts(replica) == ["One?", "Fine.", "Two?", "Fine.", "Three?"]


async def test_a_result_goes_with_the_call_of_the_response_before(stand: Stand, replica: ScriptedReplica) -> None:
    tools = [{"type": "function", "name": "now"}]
    replica.said = spoken(calls=(CALL,), reason=FinishReason.TOOL_CALLS)
    first = await respond(stand, "Time?", tools=tools)
    replica.said = spoken("Noon.")
    result = {"type": "function_call_output", "call_id": "call_1", "output": "12:00"}
    await respond(stand, [result], previous_response_id=first["id"], tools=tools)
    messages = replica.received[-1].messages or ()
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert messages[1].tool_calls[0].id == messages[2].tool_call_id == "call_1"
    body = {"model": MODEL, "input": [{**result, "call_id": "call_9"}], "previous_response_id": first["id"]}
    answer = await stand.client.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input.0.call_id")
    assert "call_9" in answer.json()["error"]["message"]


async def test_items_are_referred_to_by_their_ids(stand: Stand, replica: ScriptedReplica) -> None:
    first = await respond(stand, "One?")
    items = (await stand.client.get(f"/v1/responses/{first['id']}/input_items")).json()["data"]
    references = [{"type": "item_reference", "id": items[0]["id"]}, {"id": first["output"][0]["id"]}]
    await respond(stand, [*references, {"role": "user", "content": "Two?"}])
    assert texts(replica) == ["One?", "Fine.", "Two?"]
    unknown = {"type": "item_reference", "id": f"msg_{'0' * 52}"}
    answer = await stand.client.post("/v1/responses", json={"model": MODEL, "input": [unknown]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input.0.id")


async def test_another_key_finds_nothing(stand: Stand, replica: ScriptedReplica) -> None:
    mine = await respond(stand)
    conversation = (await stand.client.post("/v1/conversations", json={})).json()
    async with other_key(stand) as client:
        unknown = new_id("resp")
        for path in ("/v1/responses/{}", "/v1/responses/{}/input_items"):
            theirs, none = await client.get(path.format(mine["id"])), await client.get(path.format(unknown))
            assert theirs.status_code == none.status_code == 404
            message = theirs.json()["error"]["message"]
            assert message.replace(mine["id"], "") == none.json()["error"]["message"].replace(unknown, "")
        assert (await client.delete(f"/v1/responses/{mine['id']}")).status_code == 404
        assert (await client.post(f"/v1/responses/{mine['id']}/cancel")).status_code == 404
        assert (await client.get(f"/v1/conversations/{conversation['id']}")).status_code == 404
        assert (await client.delete(f"/v1/conversations/{conversation['id']}")).status_code == 404
        for more in (
            {"previous_response_id": mine["id"]},
            {"conversation": conversation["id"]},
            {"input": [{"type": "item_reference", "id": mine["output"][0]["id"]}]},
        ):
            answer = await client.post("/v1/responses", json={"model": MODEL, "input": "x", **more})
            assert answer.status_code == 404, more
        for odd in ("resp_", "resp_*", "..", "a.b", f"{mine['id']}.x", "resp_%3E", "conv_" + "0" * 48):
            assert (await client.get(f"/v1/responses/{odd}")).status_code == 404, odd
    assert (await stand.client.get(f"/v1/responses/{mine['id']}")).status_code == 200


async def test_a_key_may_be_forbidden_to_store(stand: Stand, replica: ScriptedReplica) -> None:
    async with other_key(stand, may_store=False) as client:
        body = {"model": MODEL, "input": "x"}
        response = (await client.post("/v1/responses", json=body)).json()
        assert response["store"] is False
        assert (await client.get(f"/v1/responses/{response['id']}")).status_code == 404
        for name in ("store", "background"):
            answer = await client.post("/v1/responses", json={**body, name: True})
            assert (answer.status_code, answer.json()["error"]["param"]) == (403, name)
        assert (await client.post("/v1/conversations", json={})).status_code == 403
    listed = (await stand.client.get("/llmos/v1/keys")).json()["keys"]
    assert [key["may_store"] for key in listed if key["name"] == "other"] == [False]


@pytest.mark.parametrize("gateway_settings", [{"stored_responses": 3}])
async def test_the_oldest_responses_of_a_key_give_way_to_new_ones(stand: Stand, replica: ScriptedReplica) -> None:
    async with other_key(stand) as client:
        body = {"model": MODEL, "input": "x"}
        ids = [(await client.post("/v1/responses", json=body)).json()["id"] for _ in range(5)]
        statuses = [(await client.get(f"/v1/responses/{each}")).status_code for each in ids]
        assert statuses == [404, 404, 200, 200, 200]
        assert await keys_of(stand, ids[0]) == []
        mine = await respond(stand)
        await client.post("/v1/responses", json=body)
        assert (await stand.client.get(f"/v1/responses/{mine['id']}")).status_code == 200


@pytest.mark.parametrize("gateway_settings", [{"stored_bytes": 6000}])
async def test_the_bytes_of_a_key_are_bounded(stand: Stand, replica: ScriptedReplica) -> None:
    async with other_key(stand) as client:
        ids = []
        for _ in range(4):
            answer = await client.post("/v1/responses", json={"model": MODEL, "input": "x" * 500})
            ids.append(answer.json()["id"])
        entries = await stand.bus.kv(RESPONSES_BUCKET).entries("*.*")
        records = [StoredRecord.decode(entry.value) for entry in entries]
        left = [record.bytes for record in records if record.id in ids]
        assert 1 <= len(left) < 4
        assert sum(left) <= 6000
        large = (await client.post("/v1/responses", json={"model": MODEL, "input": "x" * 7000})).json()
        assert large["store"] is False  # it is an answer all the same, and says so
        conversation = await client.post(
            "/v1/conversations", json={"items": [{"role": "user", "content": "x" * 7000}]}
        )
        assert (conversation.status_code, conversation.json()["error"]["code"]) == (413, "payload_too_large")


async def test_a_content_of_many_megabytes_is_stored_whole(stand: Stand, replica: ScriptedReplica) -> None:
    text = "lorem ipsum " * (3 << 18)
    response = await respond(stand, text)
    items = (await stand.client.get(f"/v1/responses/{response['id']}/input_items")).json()
    assert items["data"][0]["content"][0]["text"] == text
    assert len(await keys_of(stand, response["id"])) == 14  # the record, and parts
    await stand.client.delete(f"/v1/responses/{response['id']}")
    assert await keys_of(stand, response["id"]) == []


async def test_a_conversation_is_kept_and_grows(stand: Stand, replica: ScriptedReplica) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        conversation = await client.conversations.create(
            metadata={"topic": "numbers"}, items=[{"type": "message", "role": "user", "content": "Zero?"}]
        )
        assert conversation.metadata == {"topic": "numbers"}
        response = await client.responses.create(model=MODEL, input="One?", conversation=conversation.id)
        assert response.conversation is not None
        assert response.conversation.id == conversation.id
        assert texts(replica) == ["Zero?", "One?"]
        await client.responses.create(model=MODEL, input="Two?", conversation=conversation.id, store=False)
        assert texts(replica) == ["Zero?", "One?", "Fine.", "Two?"]
        items = [item async for item in client.conversations.items.list(conversation.id, order="asc", limit=2)]
        shown = [item.content[0].text for item in items]  # type: ignore[union-attr]
        assert shown == ["Zero?", "One?", "Fine.", "Two?", "Fine."]
        added = await client.conversations.items.create(
            conversation.id, items=[{"type": "message", "role": "user", "content": "Three?"}]
        )
        item_id = added.data[0].id
        assert item_id is not None
        shown_item = await client.conversations.items.retrieve(item_id, conversation_id=conversation.id)
        assert shown_item.content[0].text == "Three?"  # type: ignore[union-attr]
        await client.conversations.items.delete(item_id, conversation_id=conversation.id)
        with pytest.raises(openai.NotFoundError):
            await client.conversations.items.retrieve(item_id, conversation_id=conversation.id)
        changed = await client.conversations.update(conversation.id, metadata={"topic": "words"})
        assert changed.metadata == {"topic": "words"}
        assert (await client.conversations.retrieve(conversation.id)).metadata == {"topic": "words"}
        assert (await client.conversations.delete(conversation.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model=MODEL, input="x", conversation=conversation.id)
        assert (await client.responses.retrieve(response.id)).output_text == "Fine."


async def test_responses_at_once_all_reach_their_conversation(stand: Stand, replica: ScriptedReplica) -> None:
    conversation = (await stand.client.post("/v1/conversations", json={})).json()["id"]
    await asyncio.gather(*(respond(stand, f"{n}?", conversation=conversation) for n in range(4)))
    listed = await stand.client.get(f"/v1/conversations/{conversation}/items?order=asc")
    shown = [item["content"][0]["text"] for item in listed.json()["data"]]
    assert sorted(shown) == ["0?", "1?", "2?", "3?", "Fine.", "Fine.", "Fine.", "Fine."]
    assert shown[1::2] == ["Fine."] * 4  # a question is before its answer
    assert len(await keys_of(stand, conversation)) == 2  # no parts of older contents are left


async def test_a_conversation_has_a_bound_of_items(stand: Stand, replica: ScriptedReplica) -> None:
    items = [{"role": "user", "content": "x"}] * 2047
    conversation = (await stand.client.post("/v1/conversations", json={"items": items})).json()["id"]
    more = await stand.client.post(f"/v1/conversations/{conversation}/items", json={"items": items[:2]})
    assert more.status_code == 400
    assert "2049 items; at most 2048" in more.json()["error"]["message"]
    body = {"model": MODEL, "input": [*items[:2]], "conversation": conversation}
    answer = await stand.client.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    listed = await stand.client.get(f"/v1/conversations/{conversation}/items?limit=100")
    assert listed.json()["has_more"]


async def test_a_full_bus_leaves_answers_that_say_that_they_are_not_stored(
    stand: Stand, replica: ScriptedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.bus.nats.kv import NatsKeyValue  # noqa: PLC0415
    from shared.errors import StorageFull  # noqa: PLC0415

    async def full(*_: object) -> int:
        raise StorageFull("no room")

    monkeypatch.setattr(NatsKeyValue, "put", full)
    assert (await respond(stand))["store"] is False
    body = {"model": MODEL, "input": "x", "background": True}
    answer = await stand.client.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
    await eventually(lambda: replica.running == 0)
