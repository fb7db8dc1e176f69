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


def tool(name, parameters=None):
    function = {"name": name} if parameters is None else {"name": name, "parameters": parameters}
    return {"type": "function", "function": function}


def streamed(client, **fields):
    """(content, calls as (name, arguments), finish reason) of a stream, as a client puts it together."""
    content, calls, reasons = "", {}, []
    for chunk in ask(client, **fields, stream=True):
        (choice,) = chunk.choices
        reasons += [choice.finish_reason] if choice.finish_reason else []
        content += choice.delta.content or ""
        for delta in choice.delta.tool_calls or ():
            assert delta.index == len(calls)
            assert delta.id
            assert delta.type == "function"
            calls[delta.index] = (delta.function.name, delta.function.arguments)
    (reason,) = reasons
    return content, list(calls.values()), reason


def whole(client, **fields):
    """The same of an answer that is not streamed; its content may be None."""
    (choice,) = ask(client, **fields).choices
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
    return choice.message.content, calls, choice.finish_reason


def both(client, **fields):
    """An answer, which is the same in a stream."""
    content, calls, reason = whole(client, **fields)
    assert streamed(client, **fields) == (content or "", calls, reason)
    return content, calls, reason


def test_streamed_calls_are_the_calls_of_the_whole_answer(client):
    asked = {"messages": QUESTION, "tools": [WEATHER], "tool_choice": "required", "temperature": 0, "max_tokens": 200}
    content, calls, reason = both(client, **asked)
    assert (content, reason) == (None, "tool_calls")
    assert calls


def test_a_stop_string_does_not_end_a_call(client):
    schema = WEATHER["function"]["parameters"]
    asked = {
        "content": "weather in Rome?",
        "tools": [tool("w", schema)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_tokens": 80,
    }
    free = both(client, **asked)
    assert free[2] == "tool_calls"
    assert both(client, **asked, stop=["\n"]) == both(client, **asked, stop=['"', "{", "_"]) == free


def test_a_call_that_max_tokens_cuts_is_not_there(client):
    asked = {"content": "hi", "tools": [tool("w", WEATHER["function"]["parameters"])], "tool_choice": "required"}
    for limit in (1, 2, 9, 14):
        assert both(client, **asked, max_tokens=limit, temperature=0) == (None, [], "length")


def test_a_function_without_parameters_gets_an_empty_object(client):
    for given in (tool("now"), tool("now", {}), tool("now", {"type": "object", "properties": {}})):
        asked = {
            "tools": [given],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "max_tokens": 60,
            "seed": 1,
        }
        assert both(client, content="What time is it in Paris?", **asked) == (None, [("now", "{}")], "tool_calls")


@pytest.mark.parametrize("choice", ["auto", "required", "none", {"type": "function", "function": {"name": "f"}}])
@pytest.mark.parametrize(
    "options",
    [
        {"type": "json_object"},
        {"type": "json_object", "schema": PERSON},
        {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
    ],
    ids=["json_object", "json_object with a schema", "json_schema"],
)
def test_tools_and_a_response_format_give_calls_or_that_text(client, choice, options):
    f = tool("f", {"type": "object", "properties": {}})
    content, calls, reason = both(
        client,
        tools=[f],
        tool_choice=choice,
        response_format=options,
        parallel_tool_calls=False,
        max_tokens=120,
        temperature=0,
    )
    assert not (calls and content)
    assert set(calls) <= {("f", "{}")}
    assert (reason == "tool_calls") == bool(calls)
    assert calls if choice not in ("auto", "none") else choice == "auto" or not calls
    if reason == "stop" and "schema" in options:
        jsonschema.validate(json.loads(content), PERSON)


def test_json_mode_takes_a_schema_whose_objects_have_no_other_properties(client):
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}, "required": ["name"]}
    for seed in range(3):
        options = {"type": "json_object", "schema": schema}
        (choice,) = ask(client, response_format=options, temperature=1.0, seed=seed).choices
        assert choice.finish_reason == "stop"
        assert json.loads(choice.message.content).keys() == {"name"}


def test_a_pattern_that_no_grammar_can_have_is_left_to_the_model_unless_the_tool_is_strict(client):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^(?!-)[a-z]+$"}},
        "required": ["a"],
    }
    assert ask(client, content="x", tools=[tool("f", schema)], max_tokens=8).choices
    strict = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, content="x", tools=[strict], max_tokens=8)
    assert error.value.param == "tools.0.function.parameters"


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
