"""Every family against an independent forward pass, which itself is held to what transformers computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert.verify.check import check_graph
from services.inference.runtime.onnx_decoder import OnnxDecoder
from tests.support.factories.spans import prefill
from tests.support.harness.graph_session import GraphSession
from tests.support.models.family_files import (
    build,
    open_directory,
    open_gguf,
    quantised_weights,
    write_directory,
    write_gguf,
)
from tests.support.models.family_references import reference_logits
from tests.support.models.tiny_families import CONFIGS as PLAIN
from tests.support.models.tiny_families import IDS, MIXTURES, random_weights

GOLDEN = Path(__file__).parents[2] / "support" / "references" / "golden_logits.npz"
GOLDEN_ROWS = [4, 9, 15]
CONFIGS = PLAIN | MIXTURES
IN_GGUF = [name for name in CONFIGS if name not in ("qwen2_windows", "qwen2_moe_normed", "qwen3_moe_some")]


def gguf_config(name: str) -> dict[str, Any]:
    """A GGUF has no key for Gemma's query scale: llama.cpp takes the head's size."""
    return CONFIGS[name] | ({"query_pre_attn_scalar": CONFIGS[name]["head_dim"]} if name == "gemma3" else {})


def close(logits: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(logits, expected, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_reference_computes_what_transformers_does(name: str) -> None:
    with np.load(GOLDEN) as golden:
        expected = golden[name]
    close(reference_logits(CONFIGS[name], random_weights(CONFIGS[name]), IDS)[GOLDEN_ROWS], expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_graph_of_a_hugging_face_directory_is_right_at_once_in_chunks_and_in_steps(tmp_path: Path, name: str) -> None:
    config, weights = CONFIGS[name], random_weights(CONFIGS[name])
    arch, source = open_directory(write_directory(tmp_path / "hf", config, weights))
    spec = build(tmp_path / "out", arch, source)
    expected = reference_logits(config, weights, IDS)
    for chunk in (None, 5, 1):
        close(GraphSession(tmp_path / "out", spec, float_activations=True).all_logits(IDS, chunk=chunk), expected)
    check_graph(tmp_path / "out", arch, source)


@pytest.mark.parametrize("quantization", [Type.F32, Type.Q4_1, Type.Q8_0])
@pytest.mark.parametrize("name", IN_GGUF)
def test_graph_of_a_gguf_is_right(tmp_path: Path, name: str, quantization: Type) -> None:
    config = gguf_config(name)
    weights = random_weights(config)
    arch, source = open_gguf(write_gguf(tmp_path / "model.gguf", config, weights, quantization))
    spec = build(tmp_path / "out", arch, source)
    expected = reference_logits(config, quantised_weights(weights, quantization), IDS)
    close(GraphSession(tmp_path / "out", spec, float_activations=True).all_logits(IDS), expected)
    served = check_graph(tmp_path / "out", arch, source)["logits_error_served"]
    # Inputs in int8 change the experts of a token whose next best are nearly as good; keys and values are float16.
    assert served < (1e-3 if quantization is Type.F32 else 0.2 if name in MIXTURES else 0.1)


@pytest.mark.parametrize("quantization", [Type.F32, Type.Q4_1])
@pytest.mark.parametrize("name", IN_GGUF)
def test_decoding_in_a_batch_gives_the_bits_of_decoding_alone(tmp_path: Path, name: str, quantization: Type) -> None:
    config = gguf_config(name)
    arch, source = open_gguf(write_gguf(tmp_path / "model.gguf", config, random_weights(config), quantization))
    spec = build(tmp_path / "out", arch, source)
    decoder = OnnxDecoder(tmp_path / "out", spec, slots=3, max_len=32, threads=1)
    if quantization is Type.Q4_1:
        assert decoder.rows_alone == 1, "our own products need no second row"
    prompts = [IDS[:9], IDS[3:5], IDS[4:16]]
    alone = []
    for prompt in prompts:
        for start in range(0, len(prompt), 4):
            first = prefill(decoder, 0, prompt[start : start + 4], start)
        assert first is not None
        rows = [first.copy()]
        rows += [decoder.decode([IDS[step]], [len(prompt) + step]).copy() for step in range(6)]
        alone.append(np.concatenate(rows))
        decoder.release(0)
    whole = reference_logits(config, quantised_weights(random_weights(config), quantization), [*prompts[2], *IDS[:6]])
    noise = np.abs(alone[2] - whole[11:]).max() / np.abs(whole).max()
    assert noise < (1e-3 if quantization is Type.F32 else 0.1)
    for slot, prompt in enumerate(prompts):
        for start in range(0, len(prompt), 4):
            prefill(decoder, slot, prompt[start : start + 4], start)
    for step in range(6):
        batch = decoder.decode([IDS[step]] * 3, [len(prompt) + step for prompt in prompts])
        for slot in range(3):
            np.testing.assert_array_equal(batch[slot], alone[slot][step + 1])
    decoder.close()
