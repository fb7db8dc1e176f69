"""Fields of chat requests that say how the template is rendered."""

import json
from typing import Any

import pytest

from services.gateway.openai.requests import ChatRequest, CompletionRequest, parse
from shared.errors import InvalidInput


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse(ChatRequest, json.dumps(body).encode())


def variables(**fields: Any) -> Any:
    return json.loads(chat(**fields).template_options().variables)


@pytest.mark.parametrize(
    ("fields", "opens", "begins"),
    [
        ({}, False, True),
        ({"add_generation_prompt": True, "continue_final_message": False}, False, True),
        ({"add_generation_prompt": False}, False, False),
        ({"add_generation_prompt": False, "continue_final_message": True}, True, False),
        ({"continue_final_message": True}, True, True),
        ({"continue_final_message": None, "add_generation_prompt": None}, False, True),
    ],
)
def test_a_prompt_is_continued_or_a_new_message_begins(fields: dict[str, Any], opens: bool, begins: bool) -> None:
    options = chat(**fields).template_options()
    assert (options.continue_final_message, options.add_generation_prompt) == (opens, begins)


def test_both_at_once_are_refused() -> None:
    with pytest.raises(InvalidInput, match="add_generation_prompt") as error:
        chat(add_generation_prompt=True, continue_final_message=True).template_options()
    assert error.value.param == "continue_final_message"


def test_variables_are_the_templates() -> None:
    assert variables() == {}
    assert variables(chat_template_kwargs=None) == {}
    assert variables(chat_template_kwargs={"enable_thinking": False, "a": {"b": [1]}}) == {
        "enable_thinking": False,
        "a": {"b": [1]},
    }


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
def test_effort_and_verbosity_are_variables(effort: str) -> None:
    assert variables(reasoning_effort=effort, verbosity="low") == {"reasoning_effort": effort, "verbosity": "low"}
    assert variables(reasoning_effort=effort, chat_template_kwargs={"reasoning_effort": "x", "y": 1}) == {
        "reasoning_effort": effort,
        "y": 1,
    }
    assert variables(reasoning_effort=None, verbosity=None) == {}


def test_no_effort_switches_thinking_off_unless_it_is_switched_on() -> None:
    assert variables(reasoning_effort="none") == {"reasoning_effort": "none", "enable_thinking": False}
    on = variables(reasoning_effort="none", chat_template_kwargs={"enable_thinking": True})
    assert on == {"reasoning_effort": "none", "enable_thinking": True}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning_effort", "much"),
        ("verbosity", 1),
        ("chat_template_kwargs", "x"),
        ("chat_template_kwargs", []),
        ("continue_final_message", "yes"),
    ],
)
def test_other_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as error:
        chat(**{name: value})
    assert error.value.param == name


@pytest.mark.parametrize("value", ['{"a": NaN}', '{"a": [1e400]}', '{"a":' * 150 + "1" + "}" * 150])
def test_variables_that_cannot_be_passed_on_are_refused_by_name(value: str) -> None:
    body = '{"model": "m", "messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": ' + value + "}"
    with pytest.raises(InvalidInput) as error:
        parse(ChatRequest, body.encode())
    assert error.value.param == "chat_template_kwargs"


def test_completions_have_no_template() -> None:
    for fields in ({"continue_final_message": True}, {"chat_template_kwargs": {"a": 1}}):
        with pytest.raises(InvalidInput, match="not supported"):
            parse(CompletionRequest, json.dumps({"model": "m", "prompt": "x", **fields}).encode())


def test_stream_options_are_known_by_name() -> None:
    with pytest.raises(InvalidInput, match="unrecognized request argument") as error:
        chat(stream=True, stream_options={"include_usage": True, "include_usages": True})
    assert error.value.param == "stream_options.include_usages"
    known = {"include_usage": True, "continuous_usage_stats": True, "include_obfuscation": False}
    assert chat(stream=True, stream_options=known).continuous_usage
    assert not chat(stream=True, stream_options={**known, "include_usage": False}).continuous_usage
