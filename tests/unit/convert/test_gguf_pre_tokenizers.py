"""How text is cut into words, compared with llama.cpp's own words (`make_llama_cpp_words`)."""

# ruff: noqa: RUF001  # characters that look alike are the point

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from devtools.convert import convert_gguf
from devtools.convert.gguf.pre_tokenizers import PRE_TOKENIZERS, pre_tokenizer_name
from devtools.convert.gguf.tokenizer import build_tokenizer
from shared.errors import UnsupportedFormat
from tests.support.models.llama_files import byte_alphabet, llama_metadata, write_llama
from tests.support.models.word_texts import WORD_TEXTS

WORDS = json.loads((Path(__file__).parents[2] / "support" / "references" / "llama_cpp_words.json").read_text())
EXPECTED = {name: group["words"] for group in WORDS["groups"] for name in group["names"]}
BYTE_OF = {char: byte for byte, char in enumerate(byte_alphabet())}

CASED = {
    "ÄÖÜßéÈ naïve ẞİı": ["ÄÖÜßé", "È", " naïve", " ẞİı"],
    "हिन्दी e\u0301x": ["हिन्दी", " e\u0301x"],
}
TEKKEN = CASED | {"İSTANBUL'da Ankara'nın": ["İSTANBUL", "'da", " Ankara", "'nın"]}
GPT4O = CASED | {"İSTANBUL'da Ankara'nın": ["İSTANBUL'd", "a", " Ankara", "'nın"]}
DEEPSEEK3 = {"if(a>=b){c|=~d^e`f`}": ["if", "(a", ">=", "b", "){", "c", "|=~", "d", "^e", "`f", "`}"]}
DEEPSEEK_CODER = {"no\xa0break\u3000ideo\u2028l": ["no", "\xa0break", "\u3000", "ideo", "\u2028", "l"]}
DIFFERENT = {
    "tekken": TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), GPT4O),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), DEEPSEEK3),
    "deepseek-coder": DEEPSEEK_CODER,
}
"""Words by the models' own patterns, read by hand, where llama.cpp's engine departs from them (`pre_tokenizers`)."""


def words(name: str, text: str) -> list[str]:
    pieces = PRE_TOKENIZERS[name].build().pre_tokenize_str(text)
    return [bytes(BYTE_OF[char] for char in piece).decode() for piece, _ in pieces]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_words_are_llama_cpps(name: str) -> None:
    for text, expected in zip(WORD_TEXTS, EXPECTED[name], strict=True):
        assert words(name, text) == DIFFERENT.get(name, {}).get(text, expected), text


@pytest.mark.parametrize(("name", "texts"), DIFFERENT.items())
def test_where_llama_cpp_differs_it_still_does(name: str, texts: dict[str, list[str]]) -> None:
    """Else an exception above hides nothing and can go."""
    assert all(EXPECTED[name][WORD_TEXTS.index(text)] != own for text, own in texts.items())


@pytest.mark.parametrize("named", [{}, {"tokenizer.ggml.pre": ""}, {"tokenizer.ggml.pre": "default"}])
def test_a_file_that_names_none_is_cut_by_llama_cpps_default(named: dict[str, str]) -> None:
    metadata = {key: value for key, value in llama_metadata().items() if key != "tokenizer.ggml.pre"} | named
    cut = build_tokenizer(metadata).pre_tokenizer.pre_tokenize_str("In 123456 $5")
    assert [word for word, _ in cut] == ["In", "Ġ", "123", "456", "Ġ", "$", "5"]


@pytest.mark.parametrize("pre", [None, "default"])
def test_an_import_that_guesses_says_so(tmp_path: Path, pre: str | None) -> None:
    source = write_llama(tmp_path / "model.gguf", metadata={"tokenizer.ggml.pre": pre})
    with capture_logs() as logs:
        convert_gguf(source, tmp_path / "out")
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["event"] == "tokenizer.guessed"
    assert "tokenizer.ggml.pre" in warning["reason"]


@pytest.mark.parametrize("pre", ["smaug-bpe", "deepseek-r1-qwen", "llama3", "tekken"])
def test_an_import_of_a_named_one_is_silent(tmp_path: Path, pre: str) -> None:
    source = write_llama(tmp_path / "model.gguf", metadata={"tokenizer.ggml.pre": pre})
    with capture_logs() as logs:
        convert_gguf(source, tmp_path / "out")
    assert [entry for entry in logs if entry["log_level"] == "warning"] == []


def test_an_unknown_one_is_named_with_the_known_ones_in_one_line() -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        pre_tokenizer_name({"tokenizer.ggml.pre": "brand-new"})
    assert "'brand-new'" in caught.value.message
    assert all(name in caught.value.message for name in PRE_TOKENIZERS)
    assert "\n" not in caught.value.message
