from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import GgufFile, read_gguf
from devtools.convert.gguf.source import GgufSource
from devtools.convert.verify.reference import Reference
from shared.contracts.manifest import Manifest
from tests.support.harness.graph_session import GraphSession
from tests.support.models.awkward_text import AWKWARD
from tests.support.models.smollm2 import smollm2_gguf, xsum_text
from tests.support.references.bpe import ReferenceTokenizer
from tests.support.references.perplexity import perplexity

pytestmark = pytest.mark.slow

TOKENS = 1024


@pytest.fixture(scope="module")
def gguf() -> GgufFile:
    return read_gguf(smollm2_gguf())


def test_manifest_describes_the_model(smollm2_version: tuple[Path, Manifest]) -> None:
    folder, manifest = smollm2_version
    assert manifest.lineage.quantization == "Q4_1"
    assert manifest.lineage.license == "apache-2.0"
    assert manifest.decoder.eos_token_ids[0] == 2
    assert {file.path for file in manifest.files} == {path.name for path in folder.iterdir()}
    # A tied head shares the embedding's bytes: scales and offsets in float32 are all that the file grows by.
    assert manifest.size < 1.25 * smollm2_gguf().stat().st_size + 10_000_000


@pytest.mark.timeout(300)  # numpy computes 1,024 tokens of a real model
def test_perplexity_on_news_is_within_one_percent_of_the_dequantised_model(
    smollm2_version: tuple[Path, Manifest], gguf: GgufFile
) -> None:
    folder, manifest = smollm2_version
    text = xsum_text(8 * TOKENS)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids[:TOKENS]
    expected = Reference(read_architecture(gguf), GgufSource(gguf)).logits(ids)
    served = GraphSession(folder, manifest.decoder, max_len=TOKENS).all_logits(ids, chunk=256)
    exact = GraphSession(folder, manifest.decoder, max_len=32, float_activations=True).all_logits(ids[:32])
    np.testing.assert_allclose(exact, expected[:32], atol=2e-3)
    assert perplexity(served, ids) == pytest.approx(perplexity(expected, ids), rel=0.01)


def test_token_ids_equal_the_published_algorithm_and_round_trip(
    smollm2_version: tuple[Path, Manifest], gguf: GgufFile
) -> None:
    tokenizer = Tokenizer.from_file(str(smollm2_version[0] / "tokenizer.json"))
    reference = ReferenceTokenizer(gguf.metadata, "smollm")
    for text in [*AWKWARD, xsum_text(2000)]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == reference.encode(text), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
