"""Structured output and tools as applications use them, on the real model."""

import json
import re

import jsonschema
import openai
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
QUESTION = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]


@pytest.fixture
def client(demo):
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=demo.key, max_retries=0, timeout=120) as client:
        yield client


def ask(client, content="Describe a person as JSON.", **fields):
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(**{"model": "smollm2", "messages": messages, "max_tokens": 120} | fields)


def test_a_strict_schema_is_kept_at_any_temperature(client):
    options = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    for seed in range(3):
        (choice,) = ask(client, response_format=options, temperature=1.0, seed=seed).choices
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), PERSON)


def test_json_cut_by_max_tokens_says_length(client):
    options = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    (choice,) = ask(client, response_format=options, max_tokens=3).choices
    assert choice.finish_reason == "length"
    assert choice.message.content.lstrip().startswith("{")


def test_vllms_parameters_hold_chats_and_completions(client):
    (choice,) = ask(client, extra_body={"guided_choice": ["yes", "no"]}).choices
    assert choice.message.content in {"yes", "no"}
    (choice,) = ask(client, extra_body={"structured_outputs": {"grammar": 'start: "n" /[0-9]{3}/'}}).choices
    assert re.fullmatch(r"n[0-9]{3}", choice.message.content)
    done = client.completions.create(
        model="smollm2", prompt="Mail:", max_tokens=30, extra_body={"guided_regex": r"[a-z]{2,6}@[a-z]{2,6}\.com"}
    )
    assert re.fullmatch(r"[a-z]{2,6}@[a-z]{2,6}\.com", done.choices[0].text)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"extra_body": {"guided_json": {"type": "integer", "multipleOf": 1000003}}}, "guided_json"),
        ({"extra_body": {"guided_regex": "(a"}}, "guided_regex"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": {"type": "array", "uniqueItems": True}},
                }
            },
            "response_format.json_schema.schema",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
            "tools.0.function.parameters",
        ),
    ],
    ids=["takes 20 s to compile", "not an expression", "not enforceable", "arguments without names"],
)
def test_what_can_not_be_kept_is_a_400_with_the_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, **fields)
    assert error.value.param == param


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_is_asked_for_is_made(client, choice):
    # One call: a small model that may make several goes on making them.
    asked = {"messages": QUESTION, "tools": [WEATHER], "max_tokens": 200, "parallel_tool_calls": False}
    (answer,) = ask(client, **asked, tool_choice=choice).choices
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    for call in answer.message.tool_calls:
        assert call.function.name == "get_weather"
        jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_allowed_tools_are_called_and_the_prompt_still_shows_all(client, mode):
    time = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
    named = {"type": "function", "function": {"name": "get_time"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named]}}
    asked = {"messages": QUESTION, "tools": [WEATHER, time], "max_tokens": 120, "temperature": 0}
    free, held = ask(client, **asked), ask(client, **asked, tool_choice=choice)
    assert held.usage.prompt_tokens == free.usage.prompt_tokens
    calls = held.choices[0].message.tool_calls or []
    assert calls or mode == "auto"
    assert {call.function.name for call in calls} <= {"get_time"}


def test_streamed_calls_are_deltas_whose_pieces_are_the_whole_call(client):
    asked = {"messages": QUESTION, "tools": [WEATHER], "tool_choice": "required", "temperature": 0, "max_tokens": 200}
    (whole,) = ask(client, **asked).choices
    calls, reasons = {}, []
    for chunk in ask(client, **asked, stream=True):
        (choice,) = chunk.choices
        reasons += [choice.finish_reason] if choice.finish_reason else []
        assert not choice.delta.content
        for delta in choice.delta.tool_calls or ():
            if delta.index not in calls:
                assert delta.id
                assert delta.type == "function"
                calls[delta.index] = [delta.function.name, ""]
            else:
                assert delta.id is None
                assert delta.function.name is None
            calls[delta.index][1] += delta.function.arguments
    assert reasons == ["tool_calls"]
    assert list(calls) == list(range(len(calls)))
    expected = [[call.function.name, call.function.arguments] for call in whole.message.tool_calls]
    assert list(calls.values()) == expected


def test_without_a_call_tools_leave_the_answer_free(client):
    (answer,) = ask(client, messages=QUESTION, tools=[WEATHER], tool_choice="none", temperature=0).choices
    assert answer.message.content
    assert answer.message.tool_calls is None


def test_a_conversation_goes_on_after_a_call_and_its_result(client):
    (answer,) = ask(
        client, messages=QUESTION, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, temperature=0
    ).choices
    (call,) = answer.message.tool_calls
    messages = [*QUESTION, answer.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"}]
    (answer,) = ask(client, messages=messages, tools=[WEATHER], tool_choice="none", temperature=0).choices
    assert answer.finish_reason in {"stop", "length"}
    assert answer.message.content
