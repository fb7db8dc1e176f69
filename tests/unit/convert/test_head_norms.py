from pathlib import Path

import numpy as np
import onnx
import pytest

from devtools.convert.cuda.graph import check_kernels
from devtools.convert.cuda.head_norms import spell_out_head_norms
from devtools.convert.cuda.runtime_attention import spell_out_attention
from shared.errors import UnsupportedFormat
from tests.support.harness.graph_session import GraphSession
from tests.support.models.family_files import build, open_directory, write_directory
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_norms_spelt_out_compute_the_same_with_kernels_that_cuda_has(tmp_path: Path, name: str) -> None:
    arch, source = open_directory(write_directory(tmp_path / "hf", CONFIGS[name], random_weights(CONFIGS[name])))
    spec = build(tmp_path / "out", arch, source)
    before = GraphSession(tmp_path / "out", spec, float_activations=True).all_logits(IDS, chunk=5)
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    with pytest.raises(UnsupportedFormat, match="BranchwiseRMSNorm"):
        check_kernels(model.graph.node)
    spell_out_head_norms(model)
    spell_out_attention(model)
    check_kernels(model.graph.node)
    (tmp_path / "out" / "model.onnx").write_bytes(model.SerializeToString())
    in_floats = spec.model_copy(update={"kv_type": "float32"})  # what the operator has on a CPU
    after = GraphSession(tmp_path / "out", in_floats).all_logits(IDS, chunk=5)
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


def test_graph_without_such_norms_stays_as_it_is(tmp_path: Path) -> None:
    config = CONFIGS["llama2"]
    build(tmp_path / "out", *open_directory(write_directory(tmp_path / "hf", config, random_weights(config))))
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    before = model.SerializeToString(deterministic=True)
    spell_out_head_norms(model)
    assert model.SerializeToString(deterministic=True) == before
