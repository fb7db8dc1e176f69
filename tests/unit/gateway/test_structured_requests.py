"""Structured outputs and tools in requests: taken whole, or refused naming the field."""

import json

import pytest

from services.gateway.openai.requests import ChatRequest, CompletionRequest, parse
from services.gateway.openai.tools import call_objects, delta_objects
from shared.contracts.gateway import GeneratedToolCall
from shared.contracts.replica import Grammar, Tool, ToolCall, ToolChoice
from shared.errors import InvalidInput

SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"const": None}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
OTHER = {"type": "function", "function": {"name": "g"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
NO_TEXT = {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}
HELLO = {"role": "user", "content": "hi"}


def allowed(mode, *names):
    """OpenAI's choice of some tools."""
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def chat(**fields):
    return parse(ChatRequest, json.dumps({"model": "m", "messages": [HELLO], **fields}).encode())


def json_format(**fields):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, **fields}}


@pytest.mark.parametrize(
    ("fields", "kind", "value", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "json_object", "", "response_format"),
        ({"response_format": json_format()}, "json_schema", json.dumps(SCHEMA), "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            "json_schema",
            json.dumps(SCHEMA),
            "response_format.schema",
        ),
        ({"response_format": {"type": "json_object", "schema": {}}}, "json_object", "", "response_format"),
        ({"guided_json": SCHEMA}, "json_schema", json.dumps(SCHEMA), "guided_json"),
        ({"guided_json": json.dumps(SCHEMA)}, "json_schema", json.dumps(SCHEMA), "guided_json"),
        ({"guided_regex": "a+"}, "regex", "a+", "guided_regex"),
        ({"guided_choice": ["a", "é"]}, "choice", '["a", "é"]', "guided_choice"),
        ({"guided_grammar": 'start: "a"'}, "lark", 'start: "a"', "guided_grammar"),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", json.dumps(SCHEMA), "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a"}}, "regex", "a", "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a"]}}, "choice", '["a"]', "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": "start: A"}}, "lark", "start: A", "structured_outputs.grammar"),
        ({"structured_outputs": {"json_object": True}}, "json_object", "", "structured_outputs.json_object"),
    ],
)
def test_every_way_to_ask_for_structure_is_one_grammar(fields, kind, value, param):
    grammar = chat(**fields).grammar()
    assert (grammar.kind, grammar.value, grammar.param) == (kind, value, param)
    body = {"model": "m", "prompt": "x", **fields}
    assert parse(CompletionRequest, json.dumps(body).encode()).grammar() == grammar


def test_strict_is_what_the_client_says():
    assert not chat(response_format=json_format()).grammar().strict
    assert not chat(response_format={"type": "json_object", "schema": SCHEMA}).grammar().strict
    assert chat(response_format=json_format(strict=True)).grammar().strict
    assert chat(guided_json=SCHEMA).grammar().strict


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}, {"guided_json": None}])
def test_without_structure_there_is_no_grammar(fields):
    assert chat(**fields).grammar() is None


def test_two_grammars_are_refused_naming_the_second():
    with pytest.raises(InvalidInput, match="response_format") as error:
        chat(response_format={"type": "json_object"}, guided_regex="a").grammar()
    assert error.value.param == "guided_regex"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, "response_format"),
        ({"response_format": {"type": "text", "schema": SCHEMA}}, "response_format"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", 1]}, "guided_choice.1"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"tools": [{}]}, "tools.0.type"),
        ({"tools": [TOOL, {"type": "function", "function": {"name": "a b"}}]}, "tools.1.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]},
            "tools.0.function.parameters",
        ),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"messages": [HELLO, {"role": "tool", "content": "x"}]}, "messages.1"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages.0"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [NO_TEXT]}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
    ],
)
def test_what_is_wrong_is_named(fields, param):
    with pytest.raises(InvalidInput) as error:
        chat(**fields)
    assert error.value.param == param


def test_tools_keep_the_order_of_their_schema_and_may_take_nothing():
    strict = {"type": "function", "function": {"name": "g", "description": "d", "strict": True}}
    first, second = chat(tools=[TOOL, strict]).contract_tools()
    assert first == Tool(name="f", parameters=json.dumps(SCHEMA))
    assert (second.name, second.description, second.strict) == ("g", "d", True)
    assert json.loads(second.parameters) == {"type": "object", "properties": {}}


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(InvalidInput, match="'f'") as error:
        chat(tools=[TOOL, TOOL]).contract_tools()
    assert error.value.param == "tools.1.function.name"


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ToolChoice(parallel=False)),
        ({"tool_choice": "none"}, ToolChoice(mode="none")),
        ({"tools": [TOOL], "tool_choice": "required"}, ToolChoice(mode="required")),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            ToolChoice(mode="required", name="f"),
        ),
        ({"tools": [TOOL, OTHER], "tool_choice": allowed("auto", "g")}, ToolChoice(allowed=("g",))),
        (
            {"tools": [TOOL, OTHER], "tool_choice": allowed("required", "g", "f", "g"), "parallel_tool_calls": False},
            ToolChoice(mode="required", allowed=("g", "f"), parallel=False),
        ),
    ],
)
def test_choices(fields, choice):
    asked = chat(**fields)
    assert asked.contract_choice() == choice
    assert asked.may_call == (bool(fields.get("tools")) and choice.mode != "none")


def test_a_choice_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match="no tools"):
        chat(tool_choice="required").contract_choice()
    with pytest.raises(InvalidInput, match="none of the tools: f") as error:
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}).contract_choice()
    assert error.value.param == "tool_choice.function.name"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("sometimes", "tool_choice"),
        (5, "tool_choice"),
        ({"type": "auto"}, "tool_choice"),
        ({"type": ["function"]}, "tool_choice"),
        ({"type": "function"}, "tool_choice"),
        ({"type": "function", "function": {}}, "tool_choice.function.name"),
        ({"type": "function", "function": {"name": "f"}, "allowed_tools": {}}, "tool_choice.allowed_tools.mode"),
        ({"type": "allowed_tools"}, "tool_choice"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice"),
        (lambda: allowed("none", "f"), "tool_choice.allowed_tools.mode"),
        (lambda: allowed("auto"), "tool_choice.allowed_tools.tools"),
        (lambda: allowed("auto", *["f"] * 129), "tool_choice.allowed_tools.tools"),
        (lambda: allowed("auto", "f", "h"), "tool_choice.allowed_tools.tools.1.function.name"),
        (lambda: allowed("auto", 5), "tool_choice.allowed_tools.tools.0.function.name"),
    ],
)
def test_a_wrong_choice_is_refused_by_its_field(choice, param):
    given = choice() if callable(choice) else choice
    with pytest.raises(InvalidInput) as error:
        chat(tools=[TOOL, OTHER], tool_choice=given).contract_choice()
    assert (error.value.param or "").startswith(param)
    assert "literal" not in error.value.param


def test_messages_carry_calls_and_their_results():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"z": "x"}'}}
    assistant = {"role": "assistant", "content": None, "tool_calls": [call]}
    asked, called, result = chat(
        messages=[HELLO, assistant, {"role": "tool", "tool_call_id": "c1", "content": "42"}]
    ).chat_messages()
    assert asked.tool_calls == ()
    assert called.tool_calls == (ToolCall(id="c1", name="f", arguments='{"z": "x"}'),)
    assert (result.role, result.tool_call_id, result.content) == ("tool", "c1", "42")


def test_calls_are_written_as_a_message_and_as_a_chunk_has_them():
    calls = [
        GeneratedToolCall(index=0, id="a", name="f", arguments='{"x": 1}'),
        GeneratedToolCall(index=1, id="b", name="g", arguments="{}"),
    ]
    first = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    second = {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    assert call_objects(calls) == [first, second]
    assert delta_objects(calls) == [{"index": 0, **first}, {"index": 1, **second}]


def test_a_grammar_of_the_contract_crosses_the_bus_whole():
    grammar = chat(guided_json=SCHEMA).grammar()
    assert Grammar.decode(grammar.encode()) == grammar
    assert json.loads(grammar.value)["properties"]["a"] == {"const": None}
