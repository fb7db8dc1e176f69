"""Errors speak of JSON and of this API, not of the library that checks."""

import json
from typing import Any

import pytest

from services.gateway.openai.requests import ChatRequest, parse
from shared.errors import InvalidInput

TOOL = {"type": "function", "function": {"name": "f"}}
HELLO = {"role": "user", "content": "hi"}


def error_of(body: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as error:
        parse(ChatRequest, body)
    return error.value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages is empty; give one or more"),
        ({"messages": {}}, "messages: expected a list"),
        ({"messages": None}, "messages: expected a list (got None)"),
        ({"messages": ["x"]}, "messages.0: expected an object (got 'x')"),
        ({"model": 5}, "model: expected a string (got 5)"),
        ({"stream": "yes"}, "stream: expected true or false (got 'yes')"),
        ({"max_tokens": 1.5}, "max_tokens: expected a whole number (got 1.5)"),
        ({"temperature": "hot"}, "temperature: expected a number (got 'hot')"),
        ({"tools": "x"}, "tools: expected a list (got 'x')"),
        ({"tools": [TOOL] * 129}, "tools: 129 are given; at most 128 are taken"),
        ({"guided_choice": []}, "guided_choice is empty; give one or more"),
        ({"stream_options": {"x": 1}}, "unrecognized request argument: stream_options.x"),
        ({"max_tokens": 1 << 63}, f"max_tokens: Input should be less than {1 << 63} (got {1 << 63})"),
    ],
)
def test_a_mistake_is_named_in_our_words(fields: dict[str, Any], message: str) -> None:
    error = error_of(json.dumps({"model": "m", "messages": [HELLO], **fields}).encode())
    assert error.message == message
    assert "uple" not in error.message


def test_a_missing_field_is_named() -> None:
    assert error_of(b'{"model": "m"}').message == "messages is required"


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": \xff}', b'"\xed\xa0\xbd"', b'{"a": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    assert "JSON" in error_of(body).message


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    body = rb'{"model": "m", "messages": [{"role": "user", "content": "\ud83d and \udc00 and \ud83d\ude00"}]}'
    (message,) = parse(ChatRequest, body).chat_messages()
    assert message.content == "\ufffd and \ufffd and 😀"
