"""Texts to tokens: nothing is cut unless asked for, and what is wrong is named by its index."""

import numpy as np
import pytest

from services.inference.encoder.tokenizer import MAX_CHARS, EncoderTokenizer
from shared.errors import ContextLengthExceeded, CorruptFile, InvalidInput, PayloadTooLarge
from tests.support.models.small_encoder import VOCABULARY, tokenizer_json

MAX_LEN = 12


@pytest.fixture(scope="module")
def tokenizer():
    return EncoderTokenizer(tokenizer_json(), vocab_size=VOCABULARY, max_len=MAX_LEN)


def ids(rows) -> list[list[int]]:
    return [row.ids.tolist() for row in rows]


def test_special_tokens_stand_around_a_text_and_its_own_truncation_is_off(tokenizer):
    (row,) = tokenizer.texts(["the " * 10])
    assert row.ids.tolist() == [2, *[8] * 10, 3]
    assert row.type_ids is None


def test_a_pair_has_two_types(tokenizer):
    (row,) = tokenizer.texts(["the fox"], ["lazy dog"])
    assert row.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_a_long_text_is_refused_by_index_or_cut_before_its_end_token(tokenizer):
    long = "the " * 11
    with pytest.raises(ContextLengthExceeded, match=r" 12 tokens, but input\.41 has 13 tokens") as refused:
        tokenizer.texts(["a", long], first_index=40)
    assert refused.value.param == "input.41"
    assert ids(tokenizer.texts(["a", long], truncate=5)) == [[2, 5, 3], [2, 8, 8, 8, 3]]
    assert ids(tokenizer.texts(["a"])) == [[2, 5, 3]]


def test_token_ids_are_taken_as_they_are_and_checked(tokenizer):
    assert ids(tokenizer.ids([[5, 6], [7]])) == [[5, 6], [7]]
    assert ids(tokenizer.ids([[5, 6, 7]], truncate=2)) == [[5, 6]]
    with pytest.raises(InvalidInput, match=r"input\.3 has a token id outside"):
        tokenizer.ids([[5], [VOCABULARY]], first_index=2)
    with pytest.raises(ContextLengthExceeded, match=r"input\.0"):
        tokenizer.ids([[5] * (MAX_LEN + 1)])
    with pytest.raises(InvalidInput, match="no tokens"):
        tokenizer.ids([[]])


@pytest.mark.parametrize("truncate", [MAX_LEN + 1, 1])
def test_a_truncation_that_cannot_be_is_refused(tokenizer, truncate):
    with pytest.raises(InvalidInput, match="truncate_prompt_tokens") as refused:
        tokenizer.texts(["the quick fox"], truncate=truncate)
    assert refused.value.param == "truncate_prompt_tokens"


def test_an_empty_text_is_its_special_tokens(tokenizer):
    assert ids(tokenizer.texts([""])) == [[2, 3]]


def test_a_huge_text_is_refused_before_it_is_tokenised(tokenizer):
    with pytest.raises(PayloadTooLarge, match=r"input\.1"):
        tokenizer.texts(["a", "a" * (MAX_CHARS + 1)])


def test_a_tokenizer_of_another_model_is_refused():
    with pytest.raises(CorruptFile, match="tokens"):
        EncoderTokenizer(tokenizer_json(), vocab_size=VOCABULARY - 1, max_len=MAX_LEN)
    with pytest.raises(CorruptFile, match="can't be read"):
        EncoderTokenizer("{}", vocab_size=VOCABULARY, max_len=MAX_LEN)


def test_rows_are_int64(tokenizer):
    assert all(row.ids.dtype == np.int64 for row in tokenizer.texts(["the", "fox"]))
