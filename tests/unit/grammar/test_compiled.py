"""Whatever is drawn from the masks matches the grammar, ends only where it may, and goes on elsewhere the same."""

import json
import random
import re

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer
from tests.support.factories.schemas import schemas
from tests.support.models.small_tokenizers import byte_fallback, byte_level

EOS = 2
TOKENIZER = Tokenizer(byte_level())
VOCAB = TOKENIZER.vocab_size + 40  # models pad their vocabulary
TOKENS = grammar_tokenizer(TOKENIZER, vocab_size=VOCAB, eos_token_ids=(EOS,))


def compiled(kind, value, **fields):
    value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return CompiledGrammar(TOKENS, grammar_source(Grammar(kind=kind, value=value, **fields)))


def allowed(constraint):
    mask = constraint.mask()
    assert mask.dtype == np.uint32
    assert mask.shape == (-(-VOCAB // 32),)
    return [int(token) for token in np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))]


def draw(constraint, rng, limit=400):
    """Random allowed tokens up to the end; after `limit`, those that end soonest are preferred."""
    tokens = []
    while not constraint.finished:
        choices = allowed(constraint)
        assert choices, "a constraint that is not finished allows something"
        if EOS in choices and (len(choices) == 1 or len(tokens) > limit or rng.random() < 0.2):
            return tokens
        closing = [token for token in choices if TOKENIZER.token_bytes(token) in {b'"', b"}", b"]"}]
        token = rng.choice(closing if closing and len(tokens) > limit else [c for c in choices if c != EOS])
        assert len(tokens) < 20 * limit
        tokens.append(token)
        constraint.accept(token)
    return tokens


def text(tokens):
    return b"".join(TOKENIZER.token_bytes(token) for token in tokens).decode()


PATTERNS = [
    r"[a-c]{2,5}",
    r"(yes|no)",
    r"\d{3}-\d{4}",
    r"a/b?[/]c",
    r"é+x|你{2}",
    r"^start.{0,4}end$",
    r"(ab)*c",
    r"x#y",
]


@given(st.sampled_from(PATTERNS), st.integers(0, 1 << 32))
def test_a_regular_expression_is_matched_whole(pattern, seed):
    answer = text(draw(compiled("regex", pattern).start(), random.Random(seed)))
    assert re.fullmatch(pattern, answer)


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5), st.integers(0, 1 << 32))
def test_one_of_the_choices_is_given(choices, seed):
    constraint = compiled("choice", choices).start()
    assert text(draw(constraint, random.Random(seed))) in choices


@given(schemas(), st.integers(0, 1 << 32))
def test_an_answer_validates_against_its_schema(schema, seed):
    answer = text(draw(compiled("json_schema", schema).start(), random.Random(seed)))
    jsonschema.Draft202012Validator(schema).validate(json.loads(answer))


@given(schemas(), st.integers(0, 1 << 32), st.data())
def test_a_resumed_constraint_stands_where_the_lost_one_stood(schema, seed, data):
    grammar = compiled("json_schema", schema)
    tokens = draw(grammar.start(), random.Random(seed))
    cut = data.draw(st.integers(0, len(tokens)))
    whole = grammar.start()
    for token in tokens[:cut]:
        whole.accept(token)
    resumed = grammar.start(tokens[:cut])
    assert resumed.finished == whole.finished
    if not whole.finished:
        assert allowed(resumed) == allowed(whole)


def test_control_tokens_are_never_text():
    choices = allowed(compiled("regex", r"(.|\n)*").start())
    assert [token for token in choices if not TOKENIZER.token_bytes(token)] == [EOS]


def test_end_of_sequence_is_allowed_only_where_the_grammar_may_end():
    constraint = compiled("lark", 'start: "a" "b"*').start()
    assert EOS not in allowed(constraint)
    constraint.accept(TOKENIZER.encode("a")[0])
    assert EOS in allowed(constraint)
    constraint.accept(EOS)
    assert constraint.finished


def test_a_grammar_with_nothing_left_is_finished_without_a_last_token():
    constraint = compiled("regex", "a").start()
    assert not constraint.finished
    constraint.accept(TOKENIZER.encode("a")[0])
    assert constraint.finished


def test_tokens_that_the_grammar_does_not_allow_can_not_be_resumed():
    with pytest.raises(InvalidInput, match="guided_regex"):
        compiled("regex", "a", param="guided_regex").start(TOKENIZER.encode("b"))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"a": [1, 2], "b": {"c": "d"}}', True),
        ('{"a":[1,2],"b":{"c":"d"}}', True),
        ('{\n"a": [\n1,\n2\n]\n}', True),
        ("{ }", True),
        ("{  ", False),
        ("{\n\n", False),
        ("{\n ", False),
        ("{\t", False),
        ('{"a":  ', False),
        ('{"a"  ', False),
        ('{"a": 1,\n ', False),
        ('{"a": 1\n\n', False),
    ],
)
def test_json_has_one_space_or_line_break_between_its_parts_at_most(text, fits):
    tokens = [token for char in text for token in TOKENIZER.encode(char)]
    grammar = compiled("json_object", "")
    if fits:
        assert grammar.start(tokens).finished
    else:
        grammar.start(tokens[:-1])
        with pytest.raises(InvalidInput):
            grammar.start(tokens)


def test_sentencepiece_tokens_match_their_bytes():
    tokenizer = Tokenizer(byte_fallback())
    tokens = grammar_tokenizer(tokenizer, vocab_size=tokenizer.vocab_size, eos_token_ids=(2,))
    grammar = CompiledGrammar(tokens, grammar_source(Grammar(kind="regex", value=r" Hello你\n")))
    constraint = grammar.start()
    rng, answer = random.Random(1), b""
    while not constraint.finished:
        mask = constraint.mask()
        token = rng.choice(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())
        answer += tokenizer.token_bytes(token)
        constraint.accept(token)
    assert answer.decode() == " Hello你\n"


def test_a_grammar_too_complex_to_go_on_with_ends_its_sequence_with_the_field():
    rules = "\n".join(f'r{index}: "a" /b{{{index}}}c/' for index in range(1500))
    start = 'start: "x" (' + " | ".join(f"r{index}" for index in range(1500)) + ")"
    constraint = compiled("lark", f"{start}\n{rules}", param="guided_grammar").start()
    allowed(constraint)
    constraint.accept(TOKENIZER.encode("x")[0])  # never raises
    assert not constraint.finished
    with pytest.raises(InvalidInput, match="guided_grammar is too complex to go on") as error:
        constraint.mask()
    assert error.value.param == "guided_grammar"
