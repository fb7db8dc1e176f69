"""Mixtures of experts through a whole import: from a directory, quantised or not, and from a GGUF."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

from devtools.convert import convert_gguf, convert_hf
from devtools.convert.gguf.file import read_gguf
from devtools.convert.gguf.tokenizer import build_tokenizer
from devtools.train.base import open_base
from shared.errors import UnsupportedFormat
from tests.support.harness.graph_session import GraphSession
from tests.support.models.family_references import reference_logits
from tests.support.models.llama_files import VOCABULARY, mixtral, write_llama
from tests.support.models.tiny_families import IDS, MIXTURES, Array, random_weights


def write_directory(folder: Path, name: str, dtype: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """A directory with a tokenizer; its config and the values of its weights."""
    config = MIXTURES[name] | {"vocab_size": VOCABULARY}
    stored = {key: values.astype(dtype) for key, values in random_weights(config).items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 2}))
    metadata = read_gguf(write_llama(folder.parent / "tokens.gguf")).metadata
    (folder / "tokenizer.json").write_text(build_tokenizer(metadata).to_str())
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return config, {key: values.astype(np.float32) for key, values in stored.items()}


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe"])
def test_a_directory_of_bfloat16_is_served_in_floats(tmp_path: Path, name: str) -> None:
    config, weights = write_directory(tmp_path / name, name, ml_dtypes.bfloat16)
    manifest = convert_hf(tmp_path / name, tmp_path / "out", quantize="none")
    expected = reference_logits(config, weights, IDS)
    logits = GraphSession(tmp_path / "out", manifest.the_decoder, float_activations=True).all_logits(IDS, chunk=5)
    np.testing.assert_allclose(logits, expected, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
def test_a_directory_is_quantised_with_all_its_experts(tmp_path: Path, name: str) -> None:
    config, weights = write_directory(tmp_path / name, name, np.float32)
    manifest = convert_hf(tmp_path / name, tmp_path / "out", quantize="int8")
    assert manifest.lineage.quantization == "int8"
    assert manifest.metrics["perplexity"] == pytest.approx(manifest.metrics["perplexity_original"], rel=0.1)
    codes = sum(values.size for key, values in weights.items() if ".experts." in key)
    assert (
        codes * 9 / 8
        < manifest.memory.weights
        < codes * 9 / 8
        + 4 * sum(values.size for key, values in weights.items() if ".experts." not in key)
        + config["max_position_embeddings"] * 256
    ), "all experts are counted"


def test_a_gguf_is_as_large_as_its_file_and_is_not_trained(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "m.gguf", Type.Q8_0, **mixtral(experts=32, used=3))
    manifest = convert_gguf(source, tmp_path / "out")
    # Initializers begin on pages, which matters to matrices as small as these.
    assert sum(file.size for file in manifest.files if "data" in file.path) < 1.25 * source.stat().st_size
    assert manifest.metrics["logits_error_float"] < 1e-4
    with pytest.raises(UnsupportedFormat, match="mixture of experts, which can be served and not trained"):
        open_base(source)
