import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.convert.gguf.tokenizer import begins_with_bos, build_tokenizer, end_token_ids
from tests.support.models.awkward_text import AWKWARD
from tests.support.models.llama_files import TOKENS, llama_metadata
from tests.support.references.bpe import ReferenceTokenizer

PRE = ["smollm", "gpt-2", "llama-bpe", "smaug-bpe"]


def both(pre: str) -> tuple[object, ReferenceTokenizer]:
    metadata = llama_metadata() | {"tokenizer.ggml.pre": pre}
    return build_tokenizer(metadata), ReferenceTokenizer(metadata, pre)


@pytest.mark.parametrize("pre", PRE)
def test_ids_equal_the_reference_on_awkward_text_and_round_trip(pre: str) -> None:
    tokenizer, reference = both(pre)
    for text in [*AWKWARD, "hello hell <tool>hello</tool> world  w 1212 12"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == reference.encode(text), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("pre", PRE)
@settings(max_examples=60)
@given(text=st.text(alphabet=st.sampled_from("helow 12'sS\n\t\r.,é½²<|>你👍\xa0"), max_size=30))
def test_ids_equal_the_reference_on_any_text(pre: str, text: str) -> None:
    tokenizer, reference = both(pre)
    assert tokenizer.encode(text, add_special_tokens=False).ids == reference.encode(text)


@pytest.mark.parametrize("pre", ["qwen2", "deepseek-r1-qwen", "qwen35"])
def test_qwen_cuts_every_digit_and_composes_characters(pre: str) -> None:
    tokenizer = build_tokenizer(llama_metadata() | {"tokenizer.ggml.pre": pre})
    assert tokenizer.encode("12").tokens == ["1", "2"]
    assert tokenizer.encode("e\u0301").ids == tokenizer.encode("é").ids


@pytest.mark.parametrize(
    ("pre", "tokens"),
    [
        ("llama-bpe", ["abc", "Ġ", "a", "b"]),
        ("tekken", ["abc", "Ġ", "a", "b"]),
        ("smaug-bpe", ["a", "b", "c", "Ġ", "a", "b"]),
    ],
)
def test_a_word_that_is_a_token_is_that_token_where_the_model_was_trained_so(pre: str, tokens: list[str]) -> None:
    metadata = llama_metadata() | {"tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": [*TOKENS, "abc"]}
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 1]
    assert build_tokenizer(metadata).encode("abc ab").tokens == tokens


def test_control_tokens_are_special_and_user_defined_ones_are_not() -> None:
    tokenizer, _ = both("smollm")
    ids = tokenizer.encode("<|im_start|>he<tool>").ids
    assert [TOKENS[number] for number in ids] == ["<|im_start|>", "he", "<tool>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "he<tool>"


def test_nothing_is_put_before_the_text() -> None:
    tokenizer, _ = both("llama-bpe")
    assert tokenizer.encode("", add_special_tokens=True).ids == []


def test_end_tokens_are_the_files_first_and_then_the_known_ones() -> None:
    assert end_token_ids(llama_metadata()) == (2, 0)


def test_prompt_begins_with_bos_where_the_file_or_its_family_says_so() -> None:
    assert not begins_with_bos(llama_metadata())
    assert all(begins_with_bos({"tokenizer.ggml.pre": pre}) for pre in ("llama-bpe", "falcon3", "tekken"))
    assert not any(begins_with_bos({"tokenizer.ggml.pre": pre}) for pre in ("smaug-bpe", "deepseek-r1-qwen", ""))
    assert not begins_with_bos({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False})
