"""Versions keep their keys and values in the type that their manifest names: float16, or float32 in older imports."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Type

from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.manifest import DecoderSpec
from tests.support.factories.spans import prefill
from tests.support.models.family_files import build, open_gguf, write_gguf
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights


@pytest.fixture
def version(tmp_path: Path) -> tuple[Path, DecoderSpec]:
    config = CONFIGS["llama3"]
    arch, source = open_gguf(write_gguf(tmp_path / "m.gguf", config, random_weights(config), Type.Q8_0))
    return tmp_path / "out", build(tmp_path / "out", arch, source)


def in_float32(folder: Path, spec: DecoderSpec) -> DecoderSpec:
    """Make the version one of an older import."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past_", "present_")):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    described = spec.model_dump(mode="json")
    del described["kv_type"]
    return DecoderSpec.model_validate(described)


def logits(folder: Path, spec: DecoderSpec) -> np.ndarray:
    decoder = OnnxDecoder(folder, spec, slots=2, max_len=64, threads=1)
    assert decoder.batch_invariant
    try:
        first = prefill(decoder, 0, IDS[:9], 0)
        decoder.reserve_blocks(1, 16)
        decoder.store(0, 0, 0)
        decoder.fetch(0, 1, 0)
        rows = [first.copy()]
        for step, token in enumerate(IDS[9:]):
            both = decoder.decode([token, token], [9 + step, 9 + step]).copy()
            np.testing.assert_array_equal(both[0], both[1])  # the second slot has what a block kept
            rows.append(both[:1])
        return np.concatenate(rows)
    finally:
        decoder.close()


def test_both_types_run_and_agree(version: tuple[Path, DecoderSpec]) -> None:
    folder, spec = version
    assert spec.kv_type == "float16"
    halves = logits(folder, spec)
    older = in_float32(folder, spec)
    assert older.kv_type == "float32"
    floats = logits(folder, older)
    assert not np.array_equal(floats, halves)
    np.testing.assert_allclose(halves, floats, atol=0.02 * np.abs(floats).max())
