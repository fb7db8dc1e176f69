"""Which objects of a schema have the properties that it names and no others."""

import copy
import json

import pytest

from services.inference.text.grammar.closed_objects import close_objects
from services.inference.text.grammar.source import SchemaOptions, grammar_source
from shared.contracts.replica import Grammar

A = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**A, "additionalProperties": False}
B = {"properties": {"b": {}}, "required": ["b"]}
REF = {"$ref": "#/$defs/x"}


def at_once(schema):
    before = copy.deepcopy(schema)
    closed = close_objects(schema)
    assert schema == before
    return closed


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (A, CLOSED),
        ({"properties": {}}, {"properties": {}, "additionalProperties": False}),
        ({"properties": {"o": A}}, {"properties": {"o": CLOSED}, "additionalProperties": False}),
        ({"items": A}, {"items": CLOSED}),
        ({"prefixItems": [A, True]}, {"prefixItems": [CLOSED, True]}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"additionalProperties": A}, {"additionalProperties": CLOSED}),
        ({"allOf": [A]}, {"allOf": [CLOSED]}),
        ({**REF, "$defs": {"x": A}}, {**REF, "$defs": {"x": CLOSED}}),
        (
            {"allOf": [REF], "description": "as pydantic writes it", "$defs": {"x": A}},
            {"allOf": [REF], "description": "as pydantic writes it", "$defs": {"x": CLOSED}},
        ),
    ],
)
def test_an_object_whose_schema_says_nothing_is_closed(schema, closed):
    assert at_once(schema) == closed


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "integer"}},
        {**A, "patternProperties": {"^x": {}}},
        {**A, "unevaluatedProperties": False},
        {**A, "required": ["b"]},
        {**A, "minProperties": 2},
        {"allOf": [A, B]},
        {**A, "allOf": [B]},
        {**A, "anyOf": [B, {"properties": {"c": {}}}]},
        {**A, **REF, "$defs": {"x": B}},
        {"allOf": [REF, B], "$defs": {"x": A}},
        {"allOf": [REF, B], "$defs": {"x": {"$ref": "#/$defs/y~1z"}, "y/z": A}},
        {"$ref": "#", **A},
        {"enum": [{"properties": {}}], "const": {"properties": {}}},
        {"properties": [], "required": "x"},
    ],
)
def test_an_object_that_other_schemas_apply_to_or_that_says_so_stays_open(schema):
    assert at_once(schema) == schema


def test_an_open_definition_leaves_its_own_properties_closed():
    schema = {"allOf": [REF, B], "$defs": {"x": {"properties": {"o": A}}}}
    assert at_once(schema)["$defs"]["x"] == {"properties": {"o": CLOSED}}


def test_a_long_chain_of_definitions_ends():
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}", "properties": {}} for n in range(2000)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**chain, "d2000": A}}
    assert at_once(schema)["$defs"]["d5"] == chain["d5"]


@pytest.mark.parametrize(
    ("fields", "options", "closed"),
    [
        ({"strict": False}, SchemaOptions(), True),
        ({"strict": False}, SchemaOptions(close_objects=False), False),
        ({"strict": True}, SchemaOptions(), False),
    ],
)
def test_objects_are_closed_where_the_deployment_says_so_and_the_schema_is_not_strict(fields, options, closed):
    source = grammar_source(Grammar(kind="json_schema", value=json.dumps(A), **fields), options)
    assert ("additionalProperties" in source.lark) == closed
