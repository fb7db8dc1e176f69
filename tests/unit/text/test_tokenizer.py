import json

import pytest

from shared.errors import CorruptFile, UnsupportedFormat
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import TEXT, byte_fallback, byte_level


@pytest.mark.parametrize("definition", [byte_level(), byte_fallback()], ids=["byte level", "byte fallback"])
def test_text_comes_back(definition):
    tokenizer = Tokenizer(definition)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_control_tokens_in_text_become_their_ids():
    assert Tokenizer(byte_level()).encode("<|im_start|><|im_end|>") == [1, 2]


def test_nothing_is_added_truncated_or_padded():
    definition = json.loads(byte_level())
    definition["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    definition["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    plain, limited = Tokenizer(byte_level()), Tokenizer(json.dumps(definition))
    assert limited.encode(TEXT) == plain.encode(TEXT)
    assert limited.encode("a") == plain.encode("a")


@pytest.mark.parametrize("definition", [byte_level(), byte_fallback()], ids=["byte level", "byte fallback"])
def test_no_text_is_longer_than_its_tokens_allow(definition):
    tokenizer = Tokenizer(definition)
    for text in (TEXT, " " * 1000, "x" * 1000, "<|im_start|>" * 100, "你好" * 100):
        assert len(text) <= tokenizer.chars_per_token * len(tokenizer.encode(text))


@pytest.mark.parametrize("definition", ["", "{}", "[1]", byte_level()[:500]])
def test_a_file_that_is_no_tokenizer_is_refused(definition):
    with pytest.raises(CorruptFile, match=r"tokenizer\.json"):
        Tokenizer(definition)


def test_a_decoder_without_bytes_is_refused_by_name():
    definition = json.loads(byte_level())
    definition["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    with pytest.raises(UnsupportedFormat, match="WordPiece"):
        Tokenizer(json.dumps(definition))


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFile):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
