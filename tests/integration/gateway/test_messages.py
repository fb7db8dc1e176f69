"""`/v1/messages`: blocks and events, the shapes of Claude Code, and what is refused in which words."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.contracts.gateway import FinishReason
from tests.integration.gateway.conftest import MODEL, Stand
from tests.support.fakes.spoken_frames import CALL, spoken

CLAUDE_CODE = json.loads((Path(__file__).parents[2] / "support" / "recorded" / "claude_code.json").read_text())
TOOL = {"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}
ASKED = {"role": "user", "content": "hi there"}
CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "weather", "input": {"x": 1}}]}
THOUGHT = ("<thi", "nk>\nLet me ", "see. \n", "</think>", "\n\nIt is", " warm.")


def result(tool_use_id: str = "a", **fields: object) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": "sunny", **fields}
    return {"role": "user", "content": [block]}


async def ask(stand: Stand, **fields: object) -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 20, "messages": [ASKED], **fields}
    return await stand.client.post("/v1/messages", json=body)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    found = []
    for event in answer.text.strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


@pytest.fixture
async def ready(stand: Stand) -> Stand:
    await stand.deploy()
    await stand.replica()
    return stand


async def test_thoughts_text_and_calls_are_blocks(ready: Stand) -> None:
    replica = ready.replicas[0]
    replica.thinking, replica.said = "may", spoken(*THOUGHT, calls=(CALL,), reason=FinishReason.TOOL_CALLS)
    answer = await ask(ready, tools=[TOOL])
    assert '"input":{"city": "Paris", "days": 1e999}' in answer.text
    body = answer.json()
    assert [block["type"] for block in body["content"]] == ["thinking", "text", "tool_use"]
    assert body["content"][:2] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": ""},
        {"type": "text", "text": "It is warm."},
    ]
    assert (body["stop_reason"], body["stop_sequence"]) == ("tool_use", None)
    assert body["usage"] == {
        "input_tokens": 20,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 10,
        "output_tokens": 9,
    }


async def test_a_stream_has_the_events_in_anthropics_order(ready: Stand) -> None:
    replica = ready.replicas[0]
    replica.thinking, replica.said = "may", spoken(*THOUGHT, calls=(CALL,), reason=FinishReason.TOOL_CALLS)
    answer = await ask(ready, tools=[TOOL], stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    found = events(answer)
    begun = found[0]["message"]
    assert begun["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    assert (begun["content"], begun["stop_reason"], begun["role"], begun["type"]) == (
        [],
        None,
        "assistant",
        "message",
    )
    call = {"type": "tool_use", "id": "call_1f", "name": "weather", "input": {}}
    used = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 10,
        "output_tokens": 9,
    }
    assert found[1:] == [
        {"type": "ping"},
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, {"type": "thinking_delta", "thinking": "Let me"}),
        delta(0, {"type": "thinking_delta", "thinking": " see."}),
        delta(0, {"type": "signature_delta", "signature": ""}),
        {"type": "content_block_stop", "index": 0},
        start(1, {"type": "text", "text": ""}),
        delta(1, {"type": "text_delta", "text": "It is"}),
        delta(1, {"type": "text_delta", "text": " warm."}),
        {"type": "content_block_stop", "index": 1},
        start(2, call),
        delta(2, {"type": "input_json_delta", "partial_json": CALL.arguments}),
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": used},
        {"type": "message_stop"},
    ]


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, change: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": change}


async def test_thoughts_that_are_not_to_be_shown_are_an_empty_block(ready: Stand) -> None:
    replica = ready.replicas[0]
    replica.thinking, replica.said = "open", spoken("secret", "</think>", "yes")
    thinking = {"type": "adaptive", "display": "omitted"}
    whole = (await ask(ready, thinking=thinking)).json()
    assert whole["content"] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": "yes"},
    ]
    streamed = await ask(ready, thinking=thinking, stream=True)
    assert "secret" not in streamed.text
    assert "thinking_delta" not in streamed.text
    assert json.loads(replica.received[-1].template.variables) == {"enable_thinking": True}


@pytest.mark.parametrize(
    ("reason", "stop_string", "max_tokens", "expected"),
    [
        (FinishReason.STOP, None, 20, "end_turn"),
        (FinishReason.STOP, "END", 20, "stop_sequence"),
        (FinishReason.LENGTH, None, 9, "max_tokens"),
        (FinishReason.LENGTH, None, 20, "model_context_window_exceeded"),
        (FinishReason.TOOL_CALLS, None, 20, "tool_use"),
    ],
)
async def test_the_reason_why_an_answer_ends(
    ready: Stand, reason: FinishReason, stop_string: str | None, max_tokens: int, expected: str
) -> None:
    ready.replicas[0].said = spoken("text", reason=reason, stop_string=stop_string)
    whole = (await ask(ready, max_tokens=max_tokens, stop_sequences=["END"])).json()
    assert (whole["stop_reason"], whole["stop_sequence"]) == (expected, stop_string)
    streamed = events(await ask(ready, max_tokens=max_tokens, stop_sequences=["END"], stream=True))
    assert streamed[-2]["delta"] == {"stop_reason": expected, "stop_sequence": stop_string}
    assert ready.replicas[0].received[-1].sampling.stop == ("END",)


async def test_what_claude_code_sends_is_taken(ready: Stand) -> None:
    replica = ready.replicas[0]
    replica.said = spoken("hello")
    received = []
    for request in CLAUDE_CODE["requests"]:
        body = {**request["body"], "model": MODEL}
        headers = {**request["headers"], "accept-encoding": "identity"}
        answer = await ready.client.post(request["path"], json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert events(answer)[-1] == {"type": "message_stop"}
        received.append(replica.received[-1])
    first, second = received
    assert first.messages is not None
    assert second.messages is not None
    assert [message.role for message in first.messages] == ["system", "user"]
    assert first.messages[0].content.endswith("interactive agent that helps …")
    assert "run echo hello\n<system-reminder>\nAvailable agent types" in first.messages[1].content
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "tool"]
    assert second.messages[:2] == first.messages
    (call,) = second.messages[2].tool_calls
    assert (call.id, call.name, json.loads(call.arguments)["command"]) == ("call_1f", "Bash", "echo hello")
    assert (second.messages[3].tool_call_id, second.messages[3].content) == ("call_1f", "hello")
    assert {tool.name for tool in first.tools} >= {"Bash", "Read", "Edit"}
    assert "$schema" in first.tools[0].parameters
    assert json.loads(first.template.variables) == {"enable_thinking": True, "reasoning_effort": "high"}
    assert (first.sampling.max_tokens, first.clip_max_tokens) == (32000, True)


async def test_a_conversation_reaches_the_replica(ready: Stand) -> None:
    replica = ready.replicas[0]
    thoughts = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    called = {**CALLED, "content": [*thoughts, {"type": "text", "text": "I look"}, *CALLED["content"]]}
    failed = result(is_error=True, content=[{"type": "text", "text": "no"}, {"type": "text", "text": "net"}])
    failed["content"].append({"type": "text", "text": "again"})
    messages = [ASKED, {**ASKED, "content": "more"}, called, failed, {"role": "assistant", "content": "It is "}]
    answer = await ask(ready, messages=messages, tools=[TOOL], tool_choice={"type": "any"}, system="be brief")
    assert answer.status_code == 200, answer.text
    received = replica.received[-1]
    assert received.messages is not None
    shown = [(each.role, each.content, each.reasoning) for each in received.messages]
    assert shown == [
        ("system", "be brief", None),
        ("user", "hi there\nmore", None),
        ("assistant", "I look", "hm"),
        ("tool", "Error: no\nnet", None),
        ("user", "again", None),
        ("assistant", "It is ", None),
    ]
    assert received.template.continue_final_message
    assert not received.template.add_generation_prompt
    assert (received.tool_choice.mode, received.tool_choice.parallel) == ("required", True)
    one = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    await ask(ready, tools=[TOOL], tool_choice=one)
    choice = replica.received[-1].tool_choice
    assert (choice.mode, choice.name, choice.parallel) == ("required", "weather", False)
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    await ask(ready, output_config={"format": {"type": "json_schema", "schema": schema}})
    grammar = replica.received[-1].grammar
    assert grammar is not None
    assert json.loads(grammar.value) == schema


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: expected a whole number"),
    ({"messages": []}, "messages is empty"),
    (
        {"messages": [{"role": "user", "content": [IMAGE]}]},
        "messages.0.content.0.type: a block of type 'image' is not",
    ),
    (
        {"messages": [ASKED, CALLED, result(content=[IMAGE])]},
        "messages.2.content.0.content.0.type: a block of type 'ima",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "poem"}]}]}, "type 'poem' is not supported"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "a block of type 'text' needs text"),
    (
        {"messages": [{"role": "user", "content": CALLED["content"]}]},
        "content.0 is of type 'tool_use', which no message",
    ),
    ({"messages": [ASKED, result("b")]}, "messages.1.content: unexpected tool_use_id found in tool_result blocks: b"),
    ({"messages": [ASKED, CALLED, ASKED]}, "messages.1: tool_use ids were found without tool_result blocks"),
    ({"messages": [ASKED, CALLED]}, "messages.1: tool_use ids were found without tool_result blocks"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "'web_search_20250305' is run by Anthropic's",
    ),
    ({"tools": [TOOL, TOOL]}, "two tools are named 'weather'"),
    ({"tool_choice": {"type": "any"}}, "tool_choice asks for a call, but there are no tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice names 'x', which is none of the"),
    ({"stop_sequences": [""]}, "stop_sequences.0: String should have at least 1 character"),
    ({"temperature": 9}, "temperature: Input should be less than or equal to 2"),
    ({"mcp_servers": [{"name": "x"}]}, "mcp_servers is not supported yet"),
    ({"temperatur": 1}, "unrecognized request argument: temperatur"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[message[:40] for _, message in BAD])
async def test_bad_input_is_named_in_anthropics_form(ready: Stand, fields: dict[str, Any], message: str) -> None:
    answer = await ask(ready, **fields)
    body = answer.json()
    assert answer.status_code == 400, answer.text
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert message in body["error"]["message"]
    assert not ready.replicas[0].received


async def test_max_tokens_is_required_and_versions_are_dates(ready: Stand) -> None:
    body = {"model": MODEL, "messages": [ASKED]}
    missing = await ready.client.post("/v1/messages", json=body)
    assert (missing.status_code, missing.json()["error"]["message"]) == (400, "max_tokens is required")
    for version, status in (("2023-06-01", 200), ("2026-10-21", 200), ("2023-01-01", 400), ("new", 400)):
        headers = {"anthropic-version": version}
        answer = await ready.client.post("/v1/messages", json={**body, "max_tokens": 1}, headers=headers)
        assert answer.status_code == status, version


async def test_errors_before_the_body_have_anthropics_form_too(ready: Stand) -> None:
    broken = await ready.client.post("/v1/messages", content=b'{"model": ')
    assert (broken.status_code, broken.json()["type"]) == (400, "error")
    other = await ready.client.get("/v1/messages")
    assert (other.status_code, other.json()["error"]["type"]) == (405, "invalid_request_error")
    async with httpx.AsyncClient(base_url=ready.url) as stranger:
        refused = await stranger.post("/v1/messages", json={})
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
