"""An adapter in PEFT's files, merged into a Hugging Face directory."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from devtools.jobs.adapter import CONFIG, WEIGHTS, is_adapter, merge_adapter
from shared.errors import InvalidInput, UnsupportedFormat

MATRIX = "model.layers.0.self_attn.q_proj"
PREFIX = f"base_model.model.{MATRIX}"


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    random = np.random.default_rng(0)
    tensors = {f"{MATRIX}.weight": (6, 4), "model.norm.weight": (4,)}
    save_file(
        {name: random.standard_normal(shape).astype(np.float32) for name, shape in tensors.items()},
        folder / "model.safetensors",
    )
    return folder


def write_adapter(folder, *, rank=2, inputs=4, outputs=6, dora=False, matrix=PREFIX, **config):
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(1)
    parts = {
        f"{matrix}.lora_A.weight": random.standard_normal((rank, inputs)).astype(np.float32),
        f"{matrix}.lora_B.weight": random.standard_normal((outputs, rank)).astype(np.float32),
    }
    if dora:
        parts[f"{matrix}.lora_magnitude_vector"] = random.random(outputs, dtype=np.float32) + 1
    save_file(parts, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 8, **config}))
    return parts


@pytest.mark.parametrize(("config", "scale"), [({}, 4.0), ({"use_rslora": True}, 8 / 2**0.5)])
def test_the_difference_is_added_and_everything_else_stays(tmp_path, base, config, scale):
    parts = write_adapter(tmp_path / "adapter", **config)
    merge_adapter(tmp_path / "adapter", base, tmp_path / "merged")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "merged/model.safetensors")
    b, a = parts[f"{PREFIX}.lora_B.weight"], parts[f"{PREFIX}.lora_A.weight"]
    np.testing.assert_allclose(after[f"{MATRIX}.weight"], before[f"{MATRIX}.weight"] + scale * (b @ a), rtol=1e-5)
    np.testing.assert_array_equal(after["model.norm.weight"], before["model.norm.weight"])
    assert (tmp_path / "merged/config.json").read_text() == "{}"
    assert is_adapter(tmp_path / "adapter")
    assert not is_adapter(base)


def test_rows_of_a_dora_have_their_learnt_lengths(tmp_path, base):
    parts = write_adapter(tmp_path / "adapter", dora=True, use_dora=True)
    merge_adapter(tmp_path / "adapter", base, tmp_path / "merged")
    after = load_file(tmp_path / "merged/model.safetensors")[f"{MATRIX}.weight"]
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), parts[f"{PREFIX}.lora_magnitude_vector"], rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"matrix": "base_model.model.model.layers.9.self_attn.q_proj"}, InvalidInput, "belongs to another model"),
        ({"inputs": 5}, InvalidInput, r"the base's matrix is \(6, 4\)"),
        ({"matrix": "base_model.model.lm_head.modules_to_save"}, InvalidInput, "belongs to another model"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedFormat, "'modules_to_save' is not supported"),
        ({"bias": "all"}, UnsupportedFormat, "'bias' is not supported"),
        ({"peft_type": "IA3"}, UnsupportedFormat, "peft_type is 'IA3'; supported: LORA"),
    ],
)
def test_what_can_not_be_merged_is_named_and_nothing_is_left(tmp_path, base, given, error, message):
    write_adapter(tmp_path / "adapter", **given)
    with pytest.raises(error, match=message):
        merge_adapter(tmp_path / "adapter", base, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]
