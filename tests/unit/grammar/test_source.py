"""What is refused before anything is compiled."""

import json

import pytest

from services.inference.text.grammar.source import MAX_DEPTH, MAX_SOURCE, grammar_source
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("json_schema", "{", "not JSON"),
        ("json_schema", "[1]", "must be a JSON schema"),
        ("json_schema", json.dumps(nested(MAX_DEPTH)), "levels deep"),
        ("json_schema", "[" * 100_000, "not JSON"),
        ("json_schema", '{"type": "string", "maxLenght": 3}', "maxLenght is no JSON schema keyword"),
        ("json_schema", '{"properties": {"a": {"items": {"patern": ""}}}}', "properties.a.items.patern"),
        ("json_schema", '{"anyOf": [{}, {"minimun": 1}]}', "anyOf.1.minimun"),
        ("json_schema", r'{"const": "\ud800"}', "surrogate"),
        ("regex", "", "is empty"),
        ("choice", "[]", "a list of texts"),
        ("choice", '["a", ""]', "a list of texts"),
        ("lark", '%llguidance {"no_forcing": false}\nstart: "a"', "%llguidance"),
        ("regex", "a" * (MAX_SOURCE + 1), "at most"),
    ],
)
def test_what_can_not_be_a_grammar_is_refused_naming_the_field(kind, value, says):
    with pytest.raises(InvalidInput, match=says) as error:
        grammar_source(Grammar(kind=kind, value=value, param="guided_x"))
    assert error.value.param == "guided_x"
    assert error.value.message.startswith("guided_x")


def test_keywords_are_distinguished_from_the_names_of_properties():
    schema = {"properties": {"maxLenght": {}}, "$defs": {"patern": {}}, "enum": [{"patern": 1}], "x-mine": {"q": 1}}
    grammar_source(Grammar(kind="json_schema", value=json.dumps(schema)))


def test_a_schema_that_is_not_strict_may_have_unknown_keywords():
    grammar_source(Grammar(kind="json_schema", value='{"maxLenght": 3}', strict=False))
