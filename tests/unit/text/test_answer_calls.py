"""Answers with tool calls, drawn from the grammars of every form, cut and stopped at any token."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.text.answer_text import AnswerText
from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from services.inference.text.tools.grammar import tools_grammar
from services.inference.text.tools.parser import ToolCallParser
from shared.contracts.replica import Grammar, Tool, ToolChoice
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import HERMES, LLAMA, MISTRAL
from tests.support.factories.drawn_answers import drawn_tokens
from tests.support.models.small_tokenizers import byte_level

EOS = 2
MARKER = 1
"""A control token that may stand for `[TOOL_CALLS]`."""
TOKENIZER = Tokenizer(byte_level())
TOKENS = grammar_tokenizer(TOKENIZER, vocab_size=TOKENIZER.vocab_size, eos_token_ids=(EOS,))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", '}]"<\n;', "</tool_call>"]}, "days": {"type": "integer", "maximum": 99}},
    "required": ["city"],
}
TOOLS = [Tool(name="weather", parameters=json.dumps(SCHEMA)), Tool(name="now")]
NAMES = {"weather", "now"}
FORMS = [(HERMES, None), (LLAMA, None), (MISTRAL, None), (MISTRAL, MARKER)]
JSON = Grammar(
    kind="json_schema",
    value='{"type": "object", "properties": {"a": {"enum": ["x", "<tool_call>"]}}, "required": ["a"]}',
    strict=False,
)
CHOICES = [
    ({"mode": "required"}, None),
    ({"mode": "required", "parallel": False}, None),
    ({"mode": "required", "name": "weather"}, None),
    ({"mode": "auto"}, None),
    ({"mode": "auto"}, JSON),
    ({"mode": "required"}, JSON),
]
COMPILED = {}


def drawn(form, opening_id, choice, text, seed):
    """A random answer of at most three calls, as tokens."""
    key = (form.name, opening_id, repr(choice), text)
    if key not in COMPILED:
        source = tools_grammar(TOOLS, ToolChoice(**choice), form, opening_id=opening_id, text=text)
        COMPILED[key] = CompiledGrammar(TOKENS, source)
    return drawn_tokens(COMPILED[key], TOKENIZER, random.Random(seed), eos=EOS, enough=80)


def answer_text(form, opening_id, choice, text, **fields):
    place = "never" if choice["mode"] == "required" else "beside" if text is None else "instead"
    parser = ToolCallParser(form, lambda size: "x" * size, text=place)
    names = {} if opening_id is None else {opening_id: form.opening}
    return AnswerText(TOKENIZER, calls=parser, control_texts=names, **fields)


def pushed(answer, tokens):
    """Text and calls of single tokens; stops when the answer does."""
    text, calls = "", []
    for token in tokens:
        if answer.stopped:
            break
        text += answer.push((token,))[0]
        calls += answer.take_calls()
    return text, calls


def check_calls(calls):
    assert [call.index for call in calls] == list(range(len(calls)))
    for call in calls:
        assert call.name in NAMES
        arguments = json.loads(call.arguments)
        assert call.name != "now" or arguments == {}
        assert call.name != "weather" or arguments["city"] in SCHEMA["properties"]["city"]["enum"]


answers = pytest.mark.parametrize(("form", "opening_id"), FORMS)
choices = pytest.mark.parametrize(("choice", "text"), CHOICES)


@answers
@choices
@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 32))
def test_a_cut_at_any_token_leaves_whole_calls_and_no_markup(form, opening_id, choice, text, seed):
    tokens = drawn(form, opening_id, choice, text, seed)
    answer = answer_text(form, opening_id, choice, text)
    whole_text, whole_calls = pushed(answer, tokens)
    whole_text += answer.finish()
    check_calls(whole_calls)
    assert answer.has_calls == bool(whole_calls)
    assert whole_calls or choice["mode"] == "auto"
    for end in range(len(tokens)):
        cut = answer_text(form, opening_id, choice, text)
        cut_text, cut_calls = pushed(cut, tokens[:end])
        cut_text += cut.finish(cut=True)
        assert cut_calls == whole_calls[: len(cut_calls)]
        assert whole_text.startswith(cut_text.rstrip("\ufffd").rstrip())  # the cut may be within a character
        if choice["mode"] == "required" or (whole_calls and text is not None):
            assert cut_text.strip() == ""


@answers
@choices
@settings(max_examples=6)
@given(seed=st.integers(0, 1 << 32), stops=st.lists(st.sampled_from(["\n", '"', "{", "</", "o"]), max_size=2))
def test_a_stop_string_ends_the_text_and_never_a_call(form, opening_id, choice, text, **drawing):
    stops = drawing["stops"]
    tokens = drawn(form, opening_id, choice, text, drawing["seed"])
    free, held = answer_text(form, opening_id, choice, text), answer_text(form, opening_id, choice, text, stops=stops)
    whole_text, whole_calls = pushed(free, tokens)
    whole_text += free.finish()
    got_text, got_calls = pushed(held, tokens)
    got_text += held.finish()
    ends = [whole_text.find(stop) for stop in stops if stop in whole_text]
    assert got_text == (whole_text[: min(ends)] if ends else whole_text)
    assert got_calls == whole_calls[: len(got_calls)]
    if not ends:
        assert got_calls == whole_calls
        assert not held.stopped
    check_calls(got_calls)


@answers
@choices
@settings(max_examples=6)
@given(seed=st.integers(0, 1 << 32), cut=st.floats(0, 1))
def test_a_resumed_answer_has_each_call_once(form, opening_id, choice, text, **drawing):
    tokens = drawn(form, opening_id, choice, text, drawing["seed"])
    end = int(drawing["cut"] * len(tokens))
    whole = answer_text(form, opening_id, choice, text)
    whole_text, whole_calls = pushed(whole, tokens)
    lost, resumed = (
        answer_text(form, opening_id, choice, text),
        answer_text(form, opening_id, choice, text, resumed=tokens[:end]),
    )
    first_text, first_calls = pushed(lost, tokens[:end])
    assert resumed.resumed_text == first_text
    assert resumed.take_calls() == ()
    rest_text, rest_calls = pushed(resumed, tokens[end:])
    assert (first_text + rest_text, first_calls + rest_calls) == (whole_text, whole_calls)
    assert resumed.finish() == whole.finish()


@answers
@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_stop_token_ends_text_and_no_call(form, opening_id, mode):
    stop_ids = [token for char in '{R "' for token in TOKENIZER.encode(char)]
    tokens = drawn(form, opening_id, {"mode": "required", "parallel": False}, None, 5)
    answer = answer_text(form, opening_id, {"mode": mode}, None, stop_ids=stop_ids)
    text, calls = pushed(answer, tokens)
    assert (text, len(calls), answer.stopped) == ("", 1, False)


@answers
@pytest.mark.parametrize("text", [None, JSON])
def test_a_stop_token_ends_text(form, opening_id, text):
    stop_ids = TOKENIZER.encode(" ")
    for least in (0, 2, 5):
        answer = answer_text(form, opening_id, {"mode": "auto"}, text, stop_ids=stop_ids, min_tokens=least)
        spelt = [token for char in "so it is" for token in TOKENIZER.encode(char)]
        got = pushed(answer, spelt)[0]
        assert (got, answer.stopped, answer.finish()) == ("so it" if least > 2 else "so", True, "")
