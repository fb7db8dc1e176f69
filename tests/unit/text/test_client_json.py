"""JSON that a client sent as text."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text.client_json import (
    MAX_DEPTH,
    TooDeep,
    depth,
    json_text,
    parse_json,
    without_lone_surrogates,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_json_is_taken_as_it_is(value):
    assert parse_json(json_text(value)) == value
    assert parse_json(json.dumps(value)) == value  # with escapes


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"value": ',
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e400",
        '{"a": -1e999}',
        "9" * 5000,
        "nul",
        "'a'",
    ],
)
def test_what_is_no_json_or_what_no_double_holds_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_half_a_surrogate_pair_becomes_the_replacement_character():
    assert parse_json(r'{"\ud83d": ["\udc00x", "\ud83d\ude00"]}') == {"\ufffd": ["\ufffdx", "😀"]}
    assert parse_json('"\ud83d"') == "\ufffd"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("levels", [MAX_DEPTH, 1000, 100_000])
def test_nesting_is_bounded(opening, closing, levels):
    with pytest.raises(TooDeep, match=str(MAX_DEPTH)):
        parse_json(opening * levels + "1" + closing * levels)
    most = opening * (MAX_DEPTH - 1) + "1" + closing * (MAX_DEPTH - 1)
    assert depth(parse_json(most)) == MAX_DEPTH


def test_what_cannot_be_written_is_refused():
    deep: list[object] = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    for value in (float("nan"), {"a": [float("inf")]}, deep):
        with pytest.raises(ValueError, match=r"."):
            json_text(value)


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDC00\ud83dx"', rb'"\ufffd\ufffdx"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),  # a backslash, then letters
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\ud83"', rb'"\ud83"'),
    ],
)
def test_half_a_pair_is_found_in_the_text_of_a_body(given, whole):
    assert without_lone_surrogates(given) == whole


@given(st.text(alphabet=st.sampled_from('\\"/😀uD8ab\ud83d\ude00')))
def test_a_body_is_what_it_was_but_for_half_pairs(text):
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")  # joins pairs
    expected = re.sub("[\ud800-\udfff]", "\ufffd", whole)
    assert json.loads(without_lone_surrogates(json.dumps(text).encode())) == expected
