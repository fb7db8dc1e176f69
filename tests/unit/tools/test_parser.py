"""However an answer is cut into pieces, its text and its calls are the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.text.tools.call_id import random_id
from services.inference.text.tools.parser import ToolCallParser
from shared.text.tool_form import HERMES, LLAMA, MISTRAL

ARGUMENTS = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text('ab"\\{}[]</tool_call>é', max_size=14),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
).map(lambda value: json.dumps(value, ensure_ascii=False))
CALLS = st.lists(st.tuples(st.sampled_from(["f", "get_x", "a.b"]), ARGUMENTS), max_size=3)
WORDS = st.text("ab <tool_\n", max_size=20).filter(lambda text: "<tool_call>" not in text)


def written(form, text, calls):
    bodies = [f'{{"name": "{name}", "{form.arguments}": {arguments}}}' for name, arguments in calls]
    if form is HERMES:
        return text + "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)
    if form is MISTRAL:
        return text + (f"[TOOL_CALLS] [{', '.join(bodies)}]" if bodies else "")
    return "; ".join(bodies) if bodies else text


def taken_apart(form, pieces):
    ids = iter(range(100))
    parser = ToolCallParser(form, lambda chars: f"{next(ids):0{chars}}")
    text, calls, seen = "", {}, []
    for parsed in [*map(parser.push, pieces), parser.finish()]:
        text += parsed.text
        assert len({delta.index for delta in parsed.calls}) == len(parsed.calls), "one piece per call"
        for delta in parsed.calls:
            if delta.index not in calls:
                assert (delta.id is None, delta.name is None) == (False, False), "the first piece says whose it is"
                seen.append(delta.id)
                calls[delta.index] = [delta.name, ""]
            else:
                assert delta.id is delta.name is None
            calls[delta.index][1] += delta.arguments
    assert len(set(seen)) == len(seen) == parser.calls
    assert list(calls) == list(range(len(calls)))
    return text, [tuple(call) for call in calls.values()]


def cut(data, text):
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("form", [HERMES, MISTRAL, LLAMA])
@given(WORDS, CALLS, st.data())
def test_calls_and_text_do_not_depend_on_the_pieces(form, text, calls, data):
    answer = written(form, text, calls)
    got_text, got_calls = taken_apart(form, cut(data, answer))
    assert got_calls == calls
    if calls:
        assert got_text == ("" if form is LLAMA else text.rstrip())
    else:
        assert got_text == text


def test_text_between_and_after_calls_stays_without_the_white_space_around_them():
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert taken_apart(HERMES, [f"a\n{call}\n{call}\nb\n"])[0] == "a\nb"


@pytest.mark.parametrize("form", [HERMES, MISTRAL, LLAMA])
def test_a_call_cut_short_gives_what_there_was_of_it(form):
    whole = written(form, "", [("f", '{"a": "bc"}')])
    upto = whole.index('"bc"') + 2
    assert taken_apart(form, list(whole[:upto])) == ("", [("f", '{"a": "b')])


def test_a_beginning_that_never_became_a_call_is_text():
    assert taken_apart(HERMES, ["so <tool_c"]) == ("so <tool_c", [])
    assert taken_apart(HERMES, ['so <tool_call>\n{"na'])[0] == 'so<tool_call>\n{"na'.replace("so", "so", 1)


def test_ids_have_the_form_that_the_model_knows():
    (delta,) = ToolCallParser(MISTRAL, random_id).push('[TOOL_CALLS] [{"name": "f", "arguments": {}}]').calls
    assert len(delta.id) == 9
    assert delta.id.isalnum()
    (delta,) = ToolCallParser(HERMES, random_id).push('<tool_call>{"name": "f", "arguments": {}}</tool_call>').calls
    assert delta.id.startswith("call_")
