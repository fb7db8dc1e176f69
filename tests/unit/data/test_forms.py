"""Rows of each form; what can't be a row is named with its field."""

import pytest

from devtools.data.defects import Broken
from devtools.data.forms import FORMS, form_of, rows_of
from devtools.data.rows import Item, Pair, Text, Turn
from shared.contracts.replica import ChatMessage, Tool, ToolCall


def user(text):
    return ChatMessage(role="user", content=text)


def assistant(text, **more):
    return ChatMessage(role="assistant", content=text, **more)


SIMPLE = Turn(messages=(user("Hi"),), answer=assistant("Hello"))
PAIR = Pair(messages=(user("Hi"),), chosen=assistant("Hello"), rejected=assistant("What?"))
CASES = {
    "openai-chat": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        [SIMPLE],
    ),
    "sharegpt": ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, [SIMPLE]),
    "alpaca": (
        {"instruction": "Translate", "input": "Haus", "output": "house"},
        [Turn(messages=(user("Translate\n\nHaus"),), answer=assistant("house"))],
    ),
    "prompt-completion": ({"prompt": "Hi", "completion": "Hello"}, [SIMPLE]),
    "preference": ({"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}, [PAIR]),
    "openai-preference": (
        {
            "input": {"messages": [{"role": "user", "content": "Hi"}]},
            "preferred_output": [{"role": "assistant", "content": "Hello"}],
            "non_preferred_output": [{"role": "assistant", "content": "What?"}],
        },
        [PAIR],
    ),
    "text": ({"text": "Once."}, [Text(text="Once.")]),
    "llmos": ({"kind": "text", "text": "Once."}, [Text(text="Once.")]),
    "evaluation": (
        {"question": "1 + 1?", "choices": ["1", "2"], "answer": "B", "category": "sums"},
        [Item(prompt="1 + 1?", choices=("1", "2"), answer=1, labels={"category": "sums"})],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_detected_and_read(form):
    value, rows = CASES[form]
    assert form_of(value) == form
    assert rows_of(value, form) == rows


def test_each_answer_is_a_row_with_the_messages_before_it(chat):
    rows = rows_of(chat("a", "b", "c", "d"), "openai-chat")
    assert [row.answer.content for row in rows] == ["b", "d"]
    assert [message.content for message in rows[1].messages] == ["a", "b", "c"]


def test_an_answer_of_weight_0_is_read_but_not_learnt(chat):
    value = chat("a", "b", "c", "d")
    value["messages"][1]["weight"] = 0
    assert [row.answer.content for row in rows_of(value, "openai-chat")] == ["d"]


def test_tools_calls_and_results_are_kept():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    value = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "go"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
            {"role": "assistant", "content": "done"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    }
    first, second = rows_of(value, "openai-chat")
    assert first.answer == assistant("", tool_calls=(ToolCall(id="1", name="f", arguments='{"x": 1}'),))
    assert first.tools == (Tool(name="f", parameters='{"type": "object"}'),)
    assert second.messages[-1] == ChatMessage(role="tool", content="2", tool_call_id="1")


def test_a_preference_of_lists_has_a_common_prompt():
    question = {"role": "user", "content": "Hi"}
    answers = [[question, {"role": "assistant", "content": text}] for text in ("Hello", "What?")]
    assert rows_of({"chosen": answers[0], "rejected": answers[1]}, "preference") == [PAIR]


CHAT = "openai-chat"
Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"id": "1", "function": {"name": "f", "arguments": "{"}}


@pytest.mark.parametrize(
    ("value", "form", "kind", "named"),
    [
        ({"messages": [Q, {"role": "bot", "content": "a"}]}, CHAT, "broken_roles", "messages[1].role"),
        ({"messages": [Q]}, CHAT, "broken_roles", "no message of the assistant"),
        ({"messages": [A, Q]}, CHAT, "broken_roles", "messages[0]"),
        ({"messages": [Q, A | {"content": " "}]}, CHAT, "empty_answer", "messages[1].content"),
        ({"messages": [Q, {"role": "assistant"}]}, CHAT, "missing_field", "messages[1].content"),
        ({"messages": [Q, A | {"content": 7}]}, CHAT, "missing_field", "expected a text, found a number"),
        ({"messages": []}, CHAT, "missing_field", "found an empty list"),
        ({"messages": [Q, A | {"weight": 0.5}]}, CHAT, "missing_field", "messages[1].weight"),
        ({"messages": [Q, A | {"tool_calls": [CALL]}]}, CHAT, "broken_tool_call", "function.arguments"),
        ({"messages": [Q, {"role": "tool", "tool_call_id": "9", "content": ""}, A]}, CHAT, "broken_tool_call", "'9'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, A]}, CHAT, "missing_field", "image_url"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "sharegpt", "broken_roles", "conversations[0].from"),
        ({"instruction": "", "output": "x"}, "alpaca", "empty_prompt", "instruction"),
        ({"instruction": "x", "output": ""}, "alpaca", "empty_answer", "output"),
        ({"prompt": "x", "completion": ""}, "prompt-completion", "empty_answer", "completion"),
        ({"chosen": [Q, A], "rejected": [A, A]}, "preference", "broken_roles", "differ"),
        ({"chosen": "a", "rejected": "b"}, "preference", "empty_prompt", "prompt"),
        ({"text": "x"}, CHAT, "other_form", "of the form text"),
        ({"prompt": "x"}, "alpaca", "missing_field", "instruction, output: missing"),
        ({"prompt": "x", "choices": ["a"], "answer": "Z"}, "evaluation", "missing_field", "answer"),
        ({"kind": "turn", "messages": [Q], "answer": Q}, "llmos", "missing_field", "answer"),
    ],
)
def test_what_can_not_be_a_row_is_named(value, form, kind, named):
    with pytest.raises(Broken) as raised:
        rows_of(value, form)
    assert raised.value.kind == kind
    assert named in raised.value.message
