"""Calls match their tool's schema in every form; text is free until a call begins."""

import json
import random

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.source import SchemaOptions
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from services.inference.text.tools.call_id import random_id
from services.inference.text.tools.grammar import tools_grammar
from services.inference.text.tools.parser import ToolCallParser
from shared.contracts.replica import Grammar, Tool, ToolChoice
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import HERMES, LLAMA, MISTRAL, tool_form
from tests.support.factories.drawn_answers import drawn_tokens
from tests.support.models.small_tokenizers import byte_level

EOS = 2
MARKER = 1  # any control token may stand for [TOOL_CALLS]
TOKENIZER = Tokenizer(byte_level())
TOKENS = grammar_tokenizer(TOKENIZER, vocab_size=TOKENIZER.vocab_size, eos_token_ids=(EOS,))
SCHEMAS = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 6},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
    "time": {"type": "object", "properties": {"zone": {"enum": ["CET", 'U}"TC']}}, "additionalProperties": False},
}
TOOLS = [Tool(name=name, parameters=json.dumps(schema)) for name, schema in SCHEMAS.items()]
FORMS = [(HERMES, None), (LLAMA, None), (MISTRAL, None), (MISTRAL, MARKER)]


TEXT = {
    "json_object": Grammar(kind="json_object"),
    "names": Grammar(
        kind="json_schema",
        value=json.dumps(
            {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 9}, "parameters": {"type": "null"}},
                "additionalProperties": False,
            }
        ),
    ),
    "array": Grammar(kind="json_schema", value='{"type": "array", "items": {"type": "integer"}, "maxItems": 3}'),
    "string": Grammar(kind="json_schema", value='{"type": "string", "maxLength": 9}'),
}


def compiled(form, opening_id, *, text=None, **choice):
    source = tools_grammar(TOOLS, ToolChoice(**choice), form, opening_id=opening_id, text=text)
    return CompiledGrammar(TOKENS, source)


def draw(grammar, opening_id, rng, enough=60):
    """A random answer's text."""
    tokens = drawn_tokens(grammar, TOKENIZER, rng, eos=EOS, enough=enough)
    return b"".join(
        b"[TOOL_CALLS]" if token == opening_id else TOKENIZER.token_bytes(token) for token in tokens
    ).decode()


def calls_of(form, answer, *, place="beside", cut=False):
    parser = ToolCallParser(form, random_id, text=place)
    pieces = [*parser.push(answer), *parser.finish(cut=cut)]
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return text, [(call.name, json.loads(call.arguments)) for call in pieces if not isinstance(call, str)]


@pytest.mark.parametrize(("form", "opening_id"), FORMS)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    parallel=st.booleans(),
    chosen=st.sampled_from([{}, {"name": "time"}, {"allowed": ("time",)}, {"allowed": ("time", "weather")}]),
)
def test_a_forced_answer_is_valid_calls_and_nothing_else(form, opening_id, seed, parallel, chosen):
    grammar = compiled(form, opening_id, mode="required", parallel=parallel, **chosen)
    text, calls = calls_of(form, draw(grammar, opening_id, random.Random(seed)))
    assert text == ""
    assert calls
    if "name" in chosen or not parallel:
        assert len(calls) == 1
    for called, arguments in calls:
        assert called in chosen.get("allowed", [chosen.get("name", called)])
        jsonschema.validate(arguments, SCHEMAS[called])


@pytest.mark.parametrize(("form", "opening_id"), FORMS)
def test_several_calls_are_made_where_they_may_be(form, opening_id):
    grammar = compiled(form, opening_id, mode="required")
    assert any(len(calls_of(form, draw(grammar, opening_id, random.Random(n), enough=90))[1]) > 1 for n in range(30))


@pytest.mark.parametrize(("form", "opening_id"), FORMS)
def test_an_answer_that_may_call_calls_only_what_is_allowed(form, opening_id):
    opening = "\0" if opening_id else form.opening
    for allowed in (("time",), ("weather",), ("weather", "time")):
        grammar = compiled(form, opening_id, allowed=allowed)
        for name in SCHEMAS:
            answer = f'{opening}{form.before}{{"name": "{name}", "{form.arguments}": {{'
            reached, _ = reach(grammar, answer, opening_id)
            assert (reached == answer) == (name in allowed)
        assert reach(grammar, "no call at all", opening_id) == ("no call at all", True)


def reach(grammar, answer, opening_id=None):
    """Where an answer stands: how much of it is allowed, and whether it may end there."""
    constraint = grammar.start()
    for count, char in enumerate(answer):
        token = opening_id if char == "\0" else TOKENIZER.encode(char)[0]
        mask = constraint.mask()
        if constraint.finished or not mask[token // 32] >> (token % 32) & 1:
            return answer[:count], None
        constraint.accept(token)
    return answer, constraint.finished or bool(constraint.mask()[0] >> EOS & 1)


HERMES_CALL = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("form", "opening_id", "answer", "allowed", "may_end"),
    [
        (HERMES, None, "Hello <b>{", "Hello <b>{", True),
        (HERMES, None, "", "", True),
        (HERMES, None, 'So: <tool_call>\n{"name": "ti', 'So: <tool_call>\n{"name": "ti', False),
        (HERMES, None, "<tool_call>\nx", "<tool_call>\n", None),
        (HERMES, None, '<tool_call>\n{"name": "tick', '<tool_call>\n{"name": "ti', None),
        (HERMES, None, f"a {HERMES_CALL}\n{HERMES_CALL} b", f"a {HERMES_CALL}\n{HERMES_CALL} b", True),
        (LLAMA, None, "Hello {", "Hello {", True),
        (LLAMA, None, "\n{x", "\n{", None),
        (LLAMA, None, '\n{"name": "time', '\n{"name": "time', False),
        (LLAMA, None, '{"name": "x', '{"name": "', None),
        (LLAMA, None, '{"name": "time", "parameters": {}}', '{"name": "time", "parameters": {}}', True),
        (LLAMA, None, '{"name": "time", "parameters": {}} and', '{"name": "time", "parameters": {}}', None),
        (MISTRAL, None, "Hi [TOOL_CALLS] [x", "Hi [TOOL_CALLS] [", None),
        (MISTRAL, MARKER, "Hi \0 [{", "Hi \0 [{", False),
        (MISTRAL, MARKER, "Hi \0 [x", "Hi \0 [", None),
    ],
)
def test_text_is_free_until_a_call_begins(form, opening_id, answer, allowed, may_end):
    assert reach(compiled(form, opening_id), answer, opening_id) == (allowed, may_end)


@pytest.mark.parametrize(("form", "opening_id"), FORMS)
@pytest.mark.parametrize("text", TEXT)
@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 32), parallel=st.booleans())
def test_an_answer_with_a_grammar_for_its_text_is_calls_or_text_that_matches(form, opening_id, text, seed, parallel):
    grammar = compiled(form, opening_id, text=TEXT[text], parallel=parallel)
    answer = draw(grammar, opening_id, random.Random(seed))
    content, calls = calls_of(form, answer, place="instead")
    assert bool(content) != bool(calls)
    for called, arguments in calls:
        jsonschema.validate(arguments, SCHEMAS[called])
    if content:
        schema = json.loads(TEXT[text].value or '{"type": "object"}')
        jsonschema.validate(json.loads(content), schema)
        assert content == answer


@pytest.mark.parametrize(("form", "opening_id"), FORMS)
def test_beside_a_grammar_for_the_text_both_stay_possible(form, opening_id):
    opening = "\0" if opening_id else form.opening
    grammar = compiled(form, opening_id, text=TEXT["json_object"])
    for answer in ('{"a":1}', f'{opening}{form.before}{{"name": "time", "{form.arguments}": {{'):
        assert reach(grammar, answer, opening_id)[0] == answer
    assert reach(grammar, "Hello", opening_id)[0] == ""


def test_json_is_no_call_in_llamas_form_even_if_it_has_the_keys_of_one():
    grammar = compiled(LLAMA, None, text=TEXT["json_object"])
    answer = '{"name":"time","parameters":{"zone":1}}'
    assert reach(grammar, answer) == (answer, True)
    assert calls_of(LLAMA, answer, place="instead") == (answer, [])
    assert reach(grammar, '{"name": "time", "parameters": {"zone": 1') == (
        '{"name": "time", "parameters": {"zone": ',
        None,
    )


@pytest.mark.parametrize(("form", "opening_id"), FORMS)
@pytest.mark.parametrize("choice", [{"mode": "required"}, {"mode": "required", "name": "time"}])
def test_where_a_call_is_asked_for_the_grammar_of_the_text_has_no_effect(form, opening_id, choice):
    grammar = compiled(form, opening_id, text=TEXT["json_object"], **choice)
    assert reach(grammar, '{"a', opening_id)[0] in {"", '{"'}
    text, calls = calls_of(form, draw(grammar, opening_id, random.Random(1)), place="instead")
    assert (text, bool(calls)) == ("", True)


def test_a_wrong_grammar_of_the_text_names_its_field():
    wrong = Grammar(kind="json_schema", value='{"uniqueItems": true}', param="response_format.json_schema.schema")
    with pytest.raises(InvalidInput, match="uniqueItems") as error:
        compiled(HERMES, None, text=wrong)
    assert error.value.param == wrong.param


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "parameters",
    [
        "{}",
        '{"type": "object"}',
        '{"type": "object", "properties": {}}',
        '{"type": "object", "properties": {}, "required": [], "title": "f", "$schema": "x"}',
    ],
)
def test_a_function_without_parameters_gets_an_empty_object(parameters, strict):
    tool = Tool(name="now", parameters=parameters, strict=strict)
    for options in (SchemaOptions(), SchemaOptions(close_objects=False)):
        grammar = CompiledGrammar(TOKENS, tools_grammar([tool], ToolChoice(mode="required"), LLAMA, options=options))
        assert reach(grammar, '{"name": "now", "parameters": {}}') == ('{"name": "now", "parameters": {}}', True)
        assert reach(grammar, '{"name": "now", "parameters": {"')[0] == '{"name": "now", "parameters": {'


@pytest.mark.parametrize(
    "parameters",
    [
        '{"type": "object", "additionalProperties": true}',
        '{"type": "object", "additionalProperties": {"type": "integer"}}',
        '{"patternProperties": {"^x": {}}}',
    ],
)
def test_a_function_of_a_map_gets_one(parameters):
    tool = Tool(name="now", parameters=parameters)
    grammar = CompiledGrammar(TOKENS, tools_grammar([tool], ToolChoice(mode="required"), LLAMA))
    answer = '{"name": "now", "parameters": {"x": 1}}'
    assert reach(grammar, answer) == (answer, True)


def test_without_parallel_calls_an_answer_ends_with_its_call():
    grammar = compiled(HERMES, None, parallel=False)
    assert reach(grammar, f"a {HERMES_CALL}\n") == (f"a {HERMES_CALL}", None)


@pytest.mark.parametrize(
    ("parameters", "strict", "says"),
    [
        ("[]", False, "must be a JSON schema"),
        ('{"type": "string"}', False, "must be 'object'"),
        ('{"propertis": {}}', True, "propertis"),
        ("{", False, "not JSON"),
    ],
)
def test_a_wrong_schema_is_refused_naming_its_tool(parameters, strict, says):
    tools = [TOOLS[0], Tool(name="x", parameters=parameters, strict=strict)]
    with pytest.raises(InvalidInput, match=says) as error:
        tools_grammar(tools, ToolChoice(), HERMES)
    assert error.value.param == "tools.1.function.parameters"


def test_what_the_compiler_refuses_names_its_tool():
    tools = [
        TOOLS[0],
        Tool(name="x", parameters='{"properties": {"a": {"uniqueItems": true}}}', strict=True),
        TOOLS[1],
    ]
    with pytest.raises(InvalidInput, match="uniqueItems") as error:
        CompiledGrammar(TOKENS, tools_grammar(tools, ToolChoice(), HERMES))
    assert error.value.param == "tools.1.function.parameters"


def test_schemas_too_large_together_are_refused():
    tools = [Tool(name=f"t{n}", parameters=json.dumps({"description": "x" * 100_000})) for n in range(3)]
    with pytest.raises(PayloadTooLarge):
        tools_grammar(tools, ToolChoice(), HERMES)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (None, HERMES),
        ("{{ messages }}", HERMES),
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", MISTRAL),
        ('{% if tools %}{"name": "x", "parameters": {}}{% endif %}<|eot_id|>', LLAMA),
    ],
)
def test_the_template_defines_the_form(template, form):
    assert tool_form(template) is form
