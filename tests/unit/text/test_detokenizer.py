"""Pieces of text as tokens come equal the text decoded at once."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.text.detokenizer import Detokenizer
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import TEXT, byte_fallback, byte_level

BYTE_LEVEL = Tokenizer(byte_level())
BYTE_FALLBACK = Tokenizer(byte_fallback())


def pieces(tokenizer, token_ids):
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.finish()]


@given(st.lists(st.integers(0, 450), max_size=60))
def test_any_tokens_of_a_byte_level_vocabulary_equal_the_library(token_ids):
    assert "".join(pieces(BYTE_LEVEL, token_ids)) == BYTE_LEVEL.decode(token_ids)


@given(st.text(max_size=60))
def test_any_text_comes_back_from_byte_level(text):
    assert "".join(pieces(BYTE_LEVEL, BYTE_LEVEL.encode(text))) == BYTE_LEVEL.decode(BYTE_LEVEL.encode(text))


@given(st.text(alphabet=st.characters(exclude_characters="▁", exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_from_byte_fallback(text):
    token_ids = BYTE_FALLBACK.encode(text)
    assert "".join(pieces(BYTE_FALLBACK, token_ids)) == BYTE_FALLBACK.decode(token_ids)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK], ids=["byte level", "byte fallback"])
def test_no_piece_holds_half_a_character(tokenizer):
    for text in ("👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "é你好", TEXT):
        for piece in pieces(tokenizer, tokenizer.encode(text)):
            assert "�" not in piece


def test_a_character_comes_with_its_last_byte_and_not_before():
    emoji = BYTE_FALLBACK.encode("👍")[-4:]
    assert pieces(BYTE_FALLBACK, emoji) == ["", "", "", "👍", ""]


def test_a_character_without_its_last_byte_becomes_one_replacement():
    emoji = BYTE_FALLBACK.encode("👍")[-4:-1]
    assert pieces(BYTE_FALLBACK, emoji) == ["", "", "", "�"]


def test_bytes_that_are_no_text_are_not_held_back_for_long():
    continuation = BYTE_FALLBACK.encode("👍")[-1]
    assert pieces(BYTE_FALLBACK, [continuation] * 3) == ["�", "�", "�", ""]


def test_control_tokens_and_unknown_ids_have_no_text():
    assert pieces(BYTE_LEVEL, [0, 1, 2, 10**6]) == [""] * 5


def test_an_added_token_that_is_no_control_token_has_its_text():
    token_ids = BYTE_LEVEL.encode("a <tool é>b")
    assert "".join(pieces(BYTE_LEVEL, token_ids)) == "a <tool é>b"


def test_a_sentencepiece_text_loses_only_its_first_space():
    hello = BYTE_FALLBACK.encode("Hello")
    assert "".join(pieces(BYTE_FALLBACK, hello + hello)) == "Hello Hello"


def test_work_per_token_does_not_grow_with_the_text():
    detokenizer = Detokenizer(BYTE_LEVEL)
    token_ids = BYTE_LEVEL.encode(TEXT) * 2000
    begun = time.perf_counter()
    for token_id in token_ids:
        detokenizer.push(token_id)
    assert (time.perf_counter() - begun) / len(token_ids) < 1e-4  # a quadratic one takes 100 times as long
