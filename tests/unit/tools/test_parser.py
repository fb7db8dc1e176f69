"""However an answer is cut into pieces, its text and its calls are the same; a call is whole or not there."""

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
FORMS = [HERMES, MISTRAL, LLAMA]


def written(form, text, calls):
    bodies = [f'{{"name": "{name}", "{form.arguments}": {arguments}}}' for name, arguments in calls]
    if form is HERMES:
        return text + "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)
    if form is MISTRAL:
        return text + (f"[TOOL_CALLS] [{', '.join(bodies)}]" if bodies else "")
    return "; ".join(bodies) if bodies else text


def taken_apart(form, pieces, *, cut=False, place="beside"):
    ids = iter(range(100))
    parser = ToolCallParser(form, lambda chars: f"{next(ids):0{chars}}", text=place)
    parsed = [piece for text in pieces for piece in parser.push(text)] + parser.finish(cut=cut)
    calls = [piece for piece in parsed if not isinstance(piece, str)]
    assert [call.index for call in calls] == list(range(parser.calls))
    assert len({call.id for call in calls}) == len(calls)
    return "".join(piece for piece in parsed if isinstance(piece, str)), [(c.name, c.arguments) for c in calls]


def cut_up(data, text):
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("form", FORMS)
@given(WORDS, CALLS, st.data())
def test_calls_and_text_do_not_depend_on_the_pieces(form, text, calls, data):
    answer = written(form, text, calls)
    got_text, got_calls = taken_apart(form, cut_up(data, answer))
    assert got_calls == calls
    if calls:
        assert got_text == ("" if form is LLAMA else text.rstrip())
    else:
        assert got_text == text


@pytest.mark.parametrize("form", FORMS)
@given(WORDS, CALLS, st.data())
def test_a_cut_answer_has_the_whole_calls_before_the_cut_and_no_part_of_the_next(form, text, calls, data):
    answer = written(form, text, calls)
    end = data.draw(st.integers(0, len(answer)))
    got_text, got_calls = taken_apart(form, cut_up(data, answer[:end]), cut=True)
    assert got_calls == calls[: len(got_calls)]
    ends = [
        len(written(form, text, calls[: count + 1]).removesuffix("]").removesuffix("\n</tool_call>"))
        for count in range(len(calls))
    ]
    assert len(got_calls) == sum(each <= end for each in ends)
    whole = ("" if form is LLAMA else text.rstrip()) if calls else text
    assert whole.startswith(got_text.rstrip())
    assert len(got_text.rstrip()) >= len(whole[:end].rstrip()) - len(form.opening)


@pytest.mark.parametrize("form", FORMS)
@given(st.text("ab<tool_call>[]{}\n", max_size=20), st.data())
def test_an_answer_that_is_json_is_no_call(form, value, data):
    answer = json.dumps({"value": value, "call": written(form, "", [("f", "{}")])}, separators=(",", ":"))
    assert taken_apart(form, cut_up(data, answer), place="instead") == (answer, [])


def test_text_between_and_after_calls_stays_without_the_white_space_around_them():
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert taken_apart(HERMES, [f"a\n{call}\n{call}\nb\n"])[0] == "a\nb"


def test_white_space_without_end_is_text():
    parser = ToolCallParser(HERMES, random_id)
    assert parser.push("a" + "\n" * 32) == ["a"]
    assert parser.push("\n") == ["\n" * 33]


def test_a_beginning_that_never_became_a_call_is_text_if_the_answer_is_complete():
    assert taken_apart(HERMES, ["so <tool_c"]) == ("so <tool_c", [])
    assert taken_apart(HERMES, ["so <tool_c"], cut=True) == ("so ", [])


def test_ids_have_the_form_that_the_model_knows():
    (call,) = ToolCallParser(MISTRAL, random_id).push('[TOOL_CALLS] [{"name": "f", "arguments": {}}]')
    assert len(call.id) == 9
    assert call.id.isalnum()
    (call,) = ToolCallParser(HERMES, random_id).push('<tool_call>{"name": "f", "arguments": {}}</tool_call>')
    assert call.id.startswith("call_")
