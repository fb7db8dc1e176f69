"""Responses that go on when the client leaves, at one gateway and at others."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import openai
import pytest

from services.gateway.app import gateway as run_gateway
from services.gateway.openai.responses.background import runs as runs_module
from services.gateway.settings import Settings
from shared.bus.connect import connect
from shared.contracts.response import RESPONSE_RUNS_BUCKET, RESPONSES_BUCKET
from shared.errors import Internal, Overloaded
from shared.service.context import Context
from shared.service.readiness import Readiness
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand, is_ready
from tests.support.fakes.scripted_replica import ScriptedReplica
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.responses import read_events, rebuilt, types_of
from tests.support.harness.wait import eventually

BODY = {"model": MODEL, "input": "tell me words", "seed": 7, "background": True}
LONG = {**BODY, "max_output_tokens": 20_000}
HEADERS = {"authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
async def replica(stand: Stand) -> ScriptedReplica:
    await stand.deploy()
    return await stand.replica()


@asynccontextmanager
async def another_gateway(stand: Stand, name: str = "gateway-two") -> AsyncIterator[httpx.AsyncClient]:
    """A client of a second gateway on the same bus."""
    bus = await connect(stand.nats.url, name=name)
    settings = Settings(nats_url=stand.nats.url, port=0, grpc_port=0, drain_timeout=1.0)
    try:
        async with (
            run_gateway(Context("gateway", name, bus, Readiness()), settings) as url,
            httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=20) as client,
        ):
            await eventually(lambda: is_ready(client))
            yield client
    finally:
        await bus.drain()


@contextmanager
def gateway_process(stand: Stand, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A gateway that can be killed."""
    environment = {
        **os.environ,
        "LLMOS_NATS_URL": stand.nats.url,
        "LLMOS_GATEWAY_PORT": str(port),
        "LLMOS_GATEWAY_GRPC_PORT": "0",
        "LLMOS_INSTANCE": "gateway-to-be-killed",
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "services.gateway"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def create(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    answer = await client.post("/v1/responses", json={**BODY, **body})
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()
    return response


async def ended(client: httpx.AsyncClient, response_id: str) -> dict[str, Any]:
    """The response once it is queued or in progress no longer."""
    found: dict[str, Any] = {}

    async def is_final() -> bool:
        found.update((await client.get(f"/v1/responses/{response_id}")).json())
        return found["status"] not in ("queued", "in_progress")

    await eventually(is_final, timeout=30)
    return found


async def has_no_run(stand: Stand) -> bool:
    return not await stand.bus.kv(RESPONSE_RUNS_BUCKET).entries()


async def test_a_background_response_is_fetched_when_it_is_ready(stand: Stand, replica: ScriptedReplica) -> None:
    response = await create(stand.client, metadata={"a": "b"})
    assert (response["status"], response["background"], response["output"]) == ("queued", True, [])
    whole = await ended(stand.client, response["id"])
    assert whole["output"][0]["content"][0]["text"] == expected_text("tell me words", 7, 6)
    assert (whole["status"], whole["metadata"]) == ("incomplete", {"a": "b"})
    await eventually(lambda: has_no_run(stand))
    body = {"model": MODEL, "input": "and on", "previous_response_id": response["id"]}
    assert (await stand.client.post("/v1/responses", json=body)).status_code == 200


async def test_it_can_not_be_continued_before_it_has_ended(stand: Stand, replica: ScriptedReplica) -> None:
    replica.token_delay = 0.02
    response = await create(stand.client, **LONG)
    body = {"model": MODEL, "input": "and on", "previous_response_id": response["id"]}
    answer = await stand.client.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (409, "previous_response_id")
    await stand.client.delete(f"/v1/responses/{response['id']}")
    await eventually(lambda: replica.running == 0)
    assert (await stand.client.get(f"/v1/responses/{response['id']}")).status_code == 404


async def test_what_no_replica_takes_is_an_error_at_once(stand: Stand, replica: ScriptedReplica) -> None:
    replica.rejection = Overloaded("full", retry_after=3)
    answer = await stand.client.post("/v1/responses", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert (await stand.client.post("/v1/responses", json={**BODY, "store": False})).status_code == 400
    assert (await stand.client.post("/v1/responses", json={**BODY, "model": "nope"})).status_code == 404
    assert await has_no_run(stand)


async def test_a_failure_is_the_state_of_the_response(stand: Stand, replica: ScriptedReplica) -> None:
    replica.fail_at = (3, Internal("the engine broke; id 1234"))
    response = await create(stand.client, stream=False)
    failed = await ended(stand.client, response["id"])
    assert (failed["status"], failed["error"]["message"]) == ("failed", "the engine broke; id 1234")
    assert failed["output"][0]["status"] == "incomplete"


async def test_the_client_cancels(stand: Stand, replica: ScriptedReplica) -> None:
    replica.token_delay = 0.02
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        response = await client.responses.create(
            model=MODEL, input="tell me words", background=True, max_output_tokens=20_000
        )
        await eventually(lambda: replica.steps > 4)
        cancelled = await client.responses.cancel(response.id)
        assert cancelled.status == "cancelled"
        assert cancelled.output_text
        assert replica.running == 0
        assert (await client.responses.cancel(response.id)).status == "cancelled"
        foreground = await client.responses.create(model=MODEL, input="tell me words")
        with pytest.raises(openai.BadRequestError, match="background=true"):
            await client.responses.cancel(foreground.id)


async def test_a_stream_that_is_cut_goes_on_from_any_event(stand: Stand, replica: ScriptedReplica) -> None:
    replica.token_delay = 0.02
    first: list[str] = []
    async with stand.client.stream(
        "POST", "/v1/responses", json={**BODY, "stream": True, "max_output_tokens": 40}
    ) as cut:
        async for line in cut.aiter_lines():
            first.append(line)
            if len(first) > 20:
                break
    seen = read_events("\n".join(first[: len(first) // 3 * 3]))
    assert types_of(seen)[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert [event["response"]["status"] for event in seen[:3]] == ["queued", "queued", "in_progress"]
    response_id, last = seen[0]["response"]["id"], seen[-1]["sequence_number"]
    path = f"/v1/responses/{response_id}?stream=true"
    rest = await stand.client.get(f"{path}&starting_after={last}")
    assert rest.text.endswith("data: [DONE]\n\n")
    events = [*seen, *read_events(rest.text)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    response = events[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == expected_text("tell me words", 7, 40)
    assert rebuilt(events) == response["output"]
    await eventually(lambda: has_no_run(stand))
    for number in (0, 5, len(events) - 2):  # once it has ended, the events are those that were stored
        again = read_events((await stand.client.get(f"{path}&starting_after={number}")).text)
        assert again == events[number + 1 :]
    async with another_gateway(stand) as client:
        assert read_events((await client.get(path)).text) == events
    assert (await stand.client.get(f"{path}&starting_after=x")).status_code == 400
    assert (await stand.client.delete(f"/v1/responses/{response_id}")).status_code == 200
    assert not [each for each in await stand.bus.kv(RESPONSES_BUCKET).entries() if response_id in each.key]


async def test_events_are_kept_for_streams_only(stand: Stand, replica: ScriptedReplica) -> None:
    response = await create(stand.client)
    answer = await stand.client.get(f"/v1/responses/{response['id']}?stream=true")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


async def test_another_gateway_reads_follows_and_cancels(stand: Stand, replica: ScriptedReplica) -> None:
    replica.token_delay = 0.02
    body = {**LONG, "stream": True}
    async with another_gateway(stand) as client, stand.client.stream("POST", "/v1/responses", json=body) as begun:
        lines = begun.aiter_lines()
        await anext(lines)
        created = (await anext(lines)).removeprefix("data: ")
        response_id = httpx.Response(200, text=created).json()["response"]["id"]
        assert (await client.get(f"/v1/responses/{response_id}")).json()["status"] == "in_progress"
        following = asyncio.create_task(client.get(f"/v1/responses/{response_id}?stream=true", timeout=30))
        await eventually(lambda: replica.steps > 40)
        cancelled = await client.post(f"/v1/responses/{response_id}/cancel", timeout=30)
        assert cancelled.json()["status"] == "cancelled"
        await eventually(lambda: replica.running == 0)
        events = read_events((await following).text)
        assert len([event for event in events if "delta" in event]) > 2
        assert events[-1]["type"] == "response.output_text.delta"


async def test_a_gateway_that_stops_leaves_failed_responses(stand: Stand, replica: ScriptedReplica) -> None:
    replica.token_delay = 0.02
    async with another_gateway(stand) as client:
        response = await create(client, **LONG)
        await eventually(lambda: replica.steps > 2)
    failed = (await stand.client.get(f"/v1/responses/{response['id']}")).json()
    assert failed["status"] == "failed"
    assert "was stopped" in failed["error"]["message"]
    assert failed["output"]
    await eventually(lambda: replica.running == 0)


async def test_a_gateway_that_is_killed_leaves_no_response_in_progress(
    stand: Stand, replica: ScriptedReplica, unused_tcp_port: int
) -> None:
    replica.token_delay = 0.02
    with gateway_process(stand, unused_tcp_port) as process:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{unused_tcp_port}", headers=HEADERS, timeout=20
        ) as client:
            await eventually(lambda: _answers(client), timeout=30)
            response = await create(client, **LONG)
            process.send_signal(signal.SIGKILL)
            process.wait()
    path = f"/v1/responses/{response['id']}"
    assert (await stand.client.get(path)).json()["status"] == "in_progress"
    for entry in await stand.bus.kv(RESPONSE_RUNS_BUCKET).entries():
        await stand.bus.kv(RESPONSE_RUNS_BUCKET).delete(entry.key)  # what time does, in twenty seconds
    failed = (await stand.client.get(path)).json()
    assert failed["status"] == "failed"
    assert "is gone" in failed["error"]["message"]
    assert (await stand.client.get(path)).json() == failed


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return await is_ready(client)
    except httpx.TransportError:
        return False


async def test_a_run_that_counts_as_lost_stays_failed(stand: Stand, replica: ScriptedReplica) -> None:
    replica.token_delay = 0.02
    response = await create(stand.client, max_output_tokens=60)
    key = next(entry.key for entry in await stand.bus.kv(RESPONSE_RUNS_BUCKET).entries())
    async with another_gateway(stand) as client:
        await stand.bus.kv(RESPONSE_RUNS_BUCKET).delete(key)
        failed = (await client.get(f"/v1/responses/{response['id']}")).json()
        assert failed["status"] == "failed"
        await eventually(lambda: replica.running == 0)
        await eventually(lambda: has_no_run(stand))
        assert (await client.get(f"/v1/responses/{response['id']}")).json() == failed


async def test_runs_of_one_key_are_bounded(
    stand: Stand, replica: ScriptedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "MAX_RUNS", 2)
    replica.token_delay = 0.02
    ids = [(await create(stand.client, **LONG))["id"] for _ in range(2)]
    answer = await stand.client.post("/v1/responses", json=LONG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    for each in ids:
        assert (await stand.client.post(f"/v1/responses/{each}/cancel")).json()["status"] == "cancelled"
    assert (await create(stand.client))["status"] == "queued"
