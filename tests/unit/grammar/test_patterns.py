"""Patterns that no grammar can have are left to the model, unless the schema is strict."""

import json

import pytest

from services.inference.text.grammar.cache import GrammarCache
from services.inference.text.grammar.patterns import without_irregular_patterns
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())


@pytest.fixture
async def grammars():
    async with GrammarProcess().running() as process:
        yield GrammarCache(
            lambda: grammar_tokenizer(TOKENIZER, vocab_size=TOKENIZER.vocab_size, eos_token_ids=(2,)), process
        )


def asked(schema, **fields):
    return grammar_source(Grammar(kind="json_schema", value=json.dumps(schema), param="guided_x", **fields))


@pytest.mark.parametrize(
    ("pattern", "regular"),
    [
        ("^[a-z]+$", True),
        (r"^a\\b$", True),
        (r"\d{3}(?:x|y)", True),
        ("^(?!-)[a-z]+$", False),
        ("(?<=a)b", False),
        ("(?=a)", False),
        (r"(a)\1", False),
        (r"\bword\b", False),
        (r"\\\bx", False),
    ],
)
def test_look_around_word_borders_and_back_references_are_left_out(pattern, regular):
    schema = {"properties": {"a": {"type": "string", "pattern": pattern, "maxLength": 5}}}
    left = without_irregular_patterns(schema)
    assert (left == schema) == regular
    assert left["properties"]["a"]["maxLength"] == 5


def test_properties_of_a_pattern_that_is_left_out_are_allowed():
    schema = {"patternProperties": {"^(?!x)": {}, "^y": {}}, "additionalProperties": False}
    assert without_irregular_patterns(schema) == {"patternProperties": {"^y": {}}, "additionalProperties": True}


@pytest.mark.parametrize("pattern", ["^(?!-)[a-z]+$", "[^]", r"\cA", "(", "a{,5}"])
async def test_a_pattern_that_cannot_be_enforced_is_left_to_the_model(grammars, pattern):
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    grammar = await grammars.compile(asked(schema, strict=False))
    assert grammar.start([token for char in '{"a":"Q"}' for token in TOKENIZER.encode(char)]).finished


async def test_a_pattern_of_a_strict_schema_that_cannot_be_enforced_is_refused(grammars):
    with pytest.raises(InvalidInput, match="look-around") as error:
        await grammars.compile(asked({"type": "string", "pattern": "^(?!-)[a-z]+$"}, strict=True))
    assert error.value.param == "guided_x"


async def test_what_fails_without_its_patterns_too_is_refused(grammars):
    with pytest.raises(InvalidInput, match="banana"):
        await grammars.compile(asked({"type": "banana", "pattern": "("}, strict=False))
