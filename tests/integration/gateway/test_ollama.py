"""Ollama's lines: thoughts, calls, log probabilities, durations, and how a stream fails."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from shared.bus import rpc
from shared.contracts.gateway import FinishReason, TokenLogprob
from shared.contracts.registry import MODELS, ModelVersion, ResolveReference
from shared.errors import Internal
from tests.integration.gateway.conftest import MODEL, Stand
from tests.support.fakes.spoken_frames import CALL, spoken

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
THOUGHT = ("<think>", "Let me ", "see.", "</think>", "\n\nIt is", " warm.")


async def ask(stand: Stand, **fields: object) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "User", "content": "hi there"}], **fields}
    return await stand.client.post("/api/chat", json=body)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
async def ready(stand: Stand) -> Stand:
    await stand.deploy()
    await stand.replica()
    return stand


async def test_lines_have_thoughts_text_and_calls_and_the_last_has_the_durations(ready: Stand) -> None:
    replica = ready.replicas[0]
    replica.thinking, replica.said = "may", spoken(*THOUGHT, calls=(CALL,), reason=FinishReason.TOOL_CALLS)
    answer = await ask(ready, tools=[TOOL], think=True)
    assert '"arguments":{"city": "Paris", "days": 1e999}' in answer.text
    found = lines(answer)
    assert all(line["model"] == MODEL and line["created_at"].endswith("Z") for line in found)
    shown = [line["message"] for line in found]
    assert shown[:4] == [
        {"role": "assistant", "content": "", "thinking": "Let me"},
        {"role": "assistant", "content": "", "thinking": " see."},
        {"role": "assistant", "content": "It is"},
        {"role": "assistant", "content": " warm."},
    ]
    (call,) = shown[4]["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("call_1f", "weather")
    last = found[-1]
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["prompt_eval_duration"]) == (30, 250_000_000)
    assert (last["eval_count"], last["eval_duration"], last["load_duration"]) == (9, 500_000_000, 0)
    assert last["total_duration"] > 0
    whole = (await ask(ready, tools=[TOOL], stream=False)).json()
    assert (whole["message"]["thinking"], whole["message"]["content"]) == ("Let me see.", "It is warm.")
    assert whole["eval_duration"] == 500_000_000
    assert json.loads(replica.received[0].template.variables) == {"enable_thinking": True}


async def test_generate_has_thoughts_beside_the_response(ready: Stand) -> None:
    replica = ready.replicas[0]
    replica.thinking, replica.said = "open", spoken("hm", "</think>", "yes")
    body = {"model": MODEL, "prompt": "hi", "think": "low"}
    found = lines(await ready.client.post("/api/generate", json=body))
    assert [(line["response"], line.get("thinking")) for line in found] == [("", "hm"), ("yes", None), ("", None)]
    variables = json.loads(replica.received[0].template.variables)
    assert variables == {"enable_thinking": True, "reasoning_effort": "low"}


async def test_log_probabilities_come_with_their_tokens(ready: Stand) -> None:
    score = TokenLogprob(token_id=5, text="�", bytes=(226,), logprob=-0.5)
    frame, end = spoken("a")
    scored = TokenLogprob(token_id=5, text="a", logprob=-0.5, top=(score,))
    ready.replicas[0].said = (frame.model_copy(update={"logprobs": (scored,)}), end)
    first, _ = lines(await ask(ready, logprobs=True, top_logprobs=1))
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    assert first["logprobs"] == [{**token, "top_logprobs": [{"token": "�", "logprob": -0.5, "bytes": [226]}]}]
    assert ready.replicas[0].received[-1].sampling.logprobs == 1
    wrong = await ask(ready, top_logprobs=1)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "top_logprobs goes with logprobs=true only")


async def test_a_stream_that_fails_ends_with_its_error(ready: Stand) -> None:
    ready.replicas[0].fail_at = (2, Internal("broken in the middle"))
    answer = await ask(ready)
    assert answer.status_code == 200
    assert lines(answer)[-1] == {"error": "broken in the middle"}


async def test_the_registry_is_asked_for_all_manifests_at_once(stand: Stand) -> None:
    names = [f"model-{index}" for index in range(5)]
    for name in names:
        await stand.deploy(name)
    asked: list[str] = []
    all_asked = asyncio.Event()

    async def resolve(request: ResolveReference) -> ModelVersion:
        asked.append(request.reference)
        if len(asked) == len(names):
            all_asked.set()
        await asyncio.wait_for(all_asked.wait(), 10)
        return ModelVersion.EXAMPLE

    async with rpc.serve(stand.bus, {MODELS.resolve: resolve}):
        listed = (await stand.client.get("/api/tags")).json()["models"]
    assert [each["name"] for each in listed] == [f"{name}:latest" for name in names]
    assert {each["size"] for each in listed} == {ModelVersion.EXAMPLE.manifest.size}


async def test_errors_before_the_body_have_ollamas_form_too(ready: Stand) -> None:
    form = await ready.client.post("/api/chat", data={"model": MODEL})
    assert (form.status_code, list(form.json())) == (415, ["error"])
    other = await ready.client.get("/api/chat")
    assert (other.status_code, list(other.json())) == (405, ["error"])
    async with httpx.AsyncClient(base_url=ready.url) as stranger:
        for path in ("/api/tags", "/api/version"):
            refused = await stranger.get(path)
            assert (refused.status_code, "llmos key create" in refused.json()["error"]) == (401, True)
