import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.convert.gguf.tokenizer import begins_with_bos, build_tokenizer
from services.inference.text.detokenizer import Detokenizer
from shared.errors import CorruptFile
from shared.text.tokenizer import Tokenizer
from tests.support.references.sentencepiece import ReferenceSentencePiece

FIXTURE = Path(__file__).parents[2] / "support" / "references" / "small_sentencepiece.json"
LEARNT: dict[str, dict[str, Any]] = json.loads(FIXTURE.read_text(encoding="utf-8"))
"""By whether a space goes before a text; made by the sentencepiece library (`make_small_sentencepiece`)."""
BUILT = {prefix: (build_tokenizer(metadata), ReferenceSentencePiece(metadata)) for prefix, metadata in LEARNT.items()}


@pytest.mark.parametrize("prefix", LEARNT)
def test_ids_equal_the_sentencepiece_librarys_and_round_trip(prefix: str) -> None:
    tokenizer, reference = BUILT[prefix]
    for text, expected in LEARNT[prefix]["ids"].items():
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == expected == reference.encode(text), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("prefix", LEARNT)
@settings(max_examples=100)
@given(text=st.text(alphabet=st.sampled_from("thearin 12.,\n\té你👍▁<>"), max_size=40))
def test_ids_equal_the_reference_on_any_text(prefix: str, text: str) -> None:
    tokenizer, reference = BUILT[prefix]
    assert tokenizer.encode(text, add_special_tokens=False).ids == reference.encode(text)


@pytest.mark.parametrize("prefix", LEARNT)
def test_pieces_that_stream_join_to_the_text(prefix: str) -> None:
    tokenizer = Tokenizer(BUILT[prefix][0].to_str())
    for text in LEARNT[prefix]["ids"]:
        detokenizer = Detokenizer(tokenizer)
        assert "".join(map(detokenizer.push, tokenizer.encode(text))) + detokenizer.finish() == text


def test_control_tokens_in_a_text_become_their_ids_and_a_space_goes_before_what_follows() -> None:
    tokenizer, reference = BUILT["True"]
    encoded = tokenizer.encode("<s>the</s>the", add_special_tokens=False)
    assert encoded.tokens == ["<s>", "▁the", "</s>", "▁the"]
    assert encoded.ids == reference.encode("<s>the</s>the")


def test_prompts_begin_with_bos_unless_the_file_says_no() -> None:
    assert begins_with_bos(LEARNT["True"])
    assert not begins_with_bos(LEARNT["True"] | {"tokenizer.ggml.add_bos_token": False})


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer.ggml.scores": None},
        {"tokenizer.ggml.scores": [1.0]},
        {"tokenizer.ggml.scores": [float("nan")] * len(LEARNT["True"]["tokenizer.ggml.tokens"])},
        {"tokenizer.ggml.unknown_token_id": 1_000_000, "tokenizer.ggml.token_type": None},
        {"tokenizer.ggml.tokens": ["a"] * len(LEARNT["True"]["tokenizer.ggml.tokens"])},
    ],
)
def test_vocabulary_that_contradicts_itself_is_corrupt(changes: dict[str, Any]) -> None:
    metadata = {key: value for key, value in (LEARNT["True"] | changes).items() if value is not None}
    with pytest.raises(CorruptFile):
        build_tokenizer(metadata)


def test_piece_that_would_be_cut_in_millions_of_ways_is_corrupt() -> None:
    tokens = ["<unk>", "a" * 100_000]
    types, scores = [2, 1], [0.0, -1.0]
    metadata = dict(zip(("tokens", "token_type", "scores"), (tokens, types, scores), strict=True))
    with pytest.raises(CorruptFile, match="100,000"):
        build_tokenizer({"tokenizer.ggml.model": "llama"} | {f"tokenizer.ggml.{k}": v for k, v in metadata.items()})
