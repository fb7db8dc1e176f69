"""Messages that servers returned and clients send back."""

import json
from typing import Any

import pytest

from services.gateway.openai.requests import ChatRequest, parse
from shared.contracts.replica import ChatMessage, ToolCall
from shared.errors import InvalidInput

EMPTY = {"function_call": None, "audio": None, "refusal": None, "tool_calls": None, "name": None}


def parsed(*messages: dict[str, Any]) -> tuple[ChatMessage, ...]:
    body = json.dumps({"model": "m", "messages": [*messages, {"role": "user", "content": "hi"}]})
    return parse(ChatRequest, body.encode()).chat_messages()[:-1]


def assistant(**fields: Any) -> ChatMessage:
    (message,) = parsed({"role": "assistant", "content": "yo", **fields})
    return message


def called(arguments: Any) -> str:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return assistant(tool_calls=[call]).tool_calls[0].arguments


@pytest.mark.parametrize(
    "fields",
    [
        EMPTY,
        {"parsed": None},
        {"parsed": {"any": ["thing"]}},
        {"annotations": []},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "x"}}]},
        {"annotations": None, "reasoning_details": None, "token_ids": None, "provider_specific_fields": None},
        {"reasoning_content": "", "reasoning": None},
        {"refusal": ""},
        {"tool_calls": []},
    ],
)
def test_fields_without_content_change_nothing(fields: dict[str, Any]) -> None:
    assert assistant(**fields) == ChatMessage(role="assistant", content="yo")


def test_null_fields_of_others_may_stand_in_every_message_and_call() -> None:
    call = {"id": "1", "type": None, "index": 0, "custom": None, "function": {"name": "f", "arguments": "{}", "x": 1}}
    first, second = parsed(
        {"role": "user", "content": "x", "tool_call_id": None, "cache_control": None, **EMPTY},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    )
    assert first == ChatMessage(role="user", content="x")
    assert second.tool_calls == (ToolCall(id="1", name="f", arguments="{}"),)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_kept_for_the_template(field: str) -> None:
    assert assistant(**{field: "hm"}).reasoning == "hm"


def test_a_refusal_is_what_the_assistant_said() -> None:
    said = {"type": "refusal", "refusal": "No."}
    for fields in ({"content": None, "refusal": "No."}, {"content": [said]}):
        assert assistant(**fields) == ChatMessage(role="assistant", content="No.")


@pytest.mark.parametrize("arguments", ["", "{}", '{"value": ', "no JSON", "[1]", "null", "NaN", r'{"a": "\ud83d"}'])
def test_arguments_are_any_text(arguments: str) -> None:
    assert called(arguments) == arguments


def test_arguments_that_are_missing_are_none() -> None:
    assert called(None) == ""


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"function_call": {"name": "f", "arguments": "{}"}}, "messages.0.function_call"),
        ({"audio": {"id": "x"}}, "messages.0.audio"),
        ({"contents": "x"}, "messages.0.contents"),
        ({"reasoning_content": 5}, "messages.0.reasoning_content"),
        ({"refusal": ["x"]}, "messages.0.refusal"),
        ({"content": [{"type": "refusal", "refusal": 5}]}, "messages.0.content"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as error:
        assistant(**fields)
    assert error.value.param == param


@pytest.mark.parametrize("levels", [200, 2000, 100_000])
def test_arguments_that_are_too_deep_are_refused_by_name(levels: int) -> None:
    with pytest.raises(InvalidInput, match="levels deep") as error:
        called('{"a":' * levels + "1" + "}" * levels)
    assert error.value.param == "messages.0.tool_calls.0.function.arguments"
    assert len(error.value.message) < 300
