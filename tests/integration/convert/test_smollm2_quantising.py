"""LLMOS's own int4 on a real model: SmolLM2 as a Hugging Face directory of floats."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from devtools.convert import convert_hf
from devtools.convert.decoder_version import write_version
from devtools.convert.from_hf import read_hf_model
from devtools.convert.gguf.file import read_gguf
from devtools.convert.quantise import source as quantised_source
from devtools.convert.quantise.source import QuantisedSource
from devtools.convert.verify import perplexity
from devtools.convert.verify.reference import Reference
from tests.support.harness.graph_session import GraphSession
from tests.support.models.hf_files import hf_weights, rescaled, write_hf
from tests.support.models.smollm2 import smollm2_gguf, xsum_text
from tests.support.references.naive_quantiser import naive_int4
from tests.support.references.perplexity import perplexity as perplexity_of

pytestmark = pytest.mark.slow

TOKENS = 256


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Other weights than the file's, of the same function: its own lie on a grid of sixteen values a block."""
    weights = rescaled(hf_weights(read_gguf(smollm2_gguf())))
    return write_hf(tmp_path / "smollm2", smollm2_gguf(), weights=weights)


@pytest.mark.timeout(900)  # numpy reads texts with a real model
def test_int4_loses_less_than_half_of_what_plain_rounding_loses(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perplexity, "WINDOW", 192)
    monkeypatch.setattr(perplexity, "WINDOWS", 2)
    manifest = convert_hf(directory, tmp_path / "ours", quantize="int4")
    assert manifest.metrics["perplexity"] < 1.15 * manifest.metrics["perplexity_original"]
    model = read_hf_model(directory)
    monkeypatch.setattr(quantised_source, "quantise_int4", naive_int4)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    naive = replace(model, weights=QuantisedSource(model.weights, "int4", scratch))
    write_version(naive, tmp_path / "naive")

    tokenizer = Tokenizer.from_file(str(tmp_path / "ours" / "tokenizer.json"))
    ids = tokenizer.encode(xsum_text(8 * TOKENS)).ids[:TOKENS]
    before = perplexity_of(Reference(model.architecture, model.weights).logits(ids), ids)
    after = {
        name: perplexity_of(GraphSession(tmp_path / name, manifest.decoder, max_len=TOKENS).all_logits(ids), ids)
        for name in ("ours", "naive")
    }
    assert after["ours"] < 1.12 * before
    assert np.log(after["ours"] / before) < 0.5 * np.log(after["naive"] / before)
