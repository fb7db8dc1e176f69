from pathlib import Path

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_gguf
from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import read_gguf
from devtools.convert.gguf.source import GgufSource
from devtools.convert.verify.reference import Reference
from shared.contracts.manifest import Manifest
from tests.support.harness.graph_session import GraphSession
from tests.support.models.llama_files import HEAD_DIM, VOCABULARY, write_llama

IDS = [1, 70, 14, 260, 33, 5, 200, 99, 42, 180, 7, 66]
MIXED = {"attn_v": Type.Q8_0, "attn_q": Type.Q4_0, "ffn_up": Type.Q4_0, "token_embd": Type.Q4_1, "blk.1": Type.F16}


def converted(tmp_path: Path, quantization: Type, **options: object) -> tuple[Path, Manifest, Reference]:
    source = write_llama(tmp_path / "model.gguf", quantization, **options)
    gguf = read_gguf(source)
    manifest = convert_gguf(source, tmp_path / "out")
    return tmp_path / "out", manifest, Reference(read_architecture(gguf), GgufSource(gguf))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantization", [Type.F32, Type.F16, Type.Q4_0, Type.Q4_1, Type.Q8_0])
def test_graph_computes_what_the_weights_say(tmp_path: Path, quantization: Type, tied: bool) -> None:
    folder, manifest, reference = converted(tmp_path, quantization, tied=tied)
    expected = reference.logits(IDS)
    exact = GraphSession(folder, manifest.decoder, float_activations=True).all_logits(IDS)
    np.testing.assert_allclose(exact, expected, atol=2e-4 * np.abs(expected).max())
    served = GraphSession(folder, manifest.decoder).all_logits(IDS)
    noise = np.sqrt(np.mean((served - expected) ** 2) / np.mean(expected**2))
    assert noise < (1e-3 if quantization in (Type.F32, Type.F16) else 0.05)


def test_tensors_of_different_types_in_one_layer_stay_exact(tmp_path: Path) -> None:
    folder, manifest, reference = converted(tmp_path, Type.Q4_1, types=MIXED)
    expected = reference.logits(IDS)
    exact = GraphSession(folder, manifest.decoder, float_activations=True).all_logits(IDS)
    np.testing.assert_allclose(exact, expected, atol=2e-4 * np.abs(expected).max())


def test_llama_3_frequency_factors_turn_the_heads(tmp_path: Path) -> None:
    factors = {"rope_freqs.weight": np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)}
    folder, manifest, reference = converted(tmp_path, Type.F32, extra=factors)
    plain = write_llama(tmp_path / "plain.gguf")
    without = Reference(read_architecture(read_gguf(plain)), GgufSource(read_gguf(plain))).logits(IDS)
    logits = GraphSession(folder, manifest.decoder, float_activations=True).all_logits(IDS)
    np.testing.assert_allclose(logits, reference.logits(IDS), atol=1e-4)
    assert np.abs(logits - without).max() > 1e-2


@pytest.mark.parametrize("quantization", [Type.F32, Type.Q4_1, Type.Q8_0])
def test_prefill_in_chunks_equals_prefill_at_once(tmp_path: Path, quantization: Type) -> None:
    folder, manifest, _ = converted(tmp_path, quantization)
    at_once = GraphSession(folder, manifest.decoder).all_logits(IDS)
    for chunk in (1, 5):
        in_chunks = GraphSession(folder, manifest.decoder).all_logits(IDS, chunk=chunk)
        np.testing.assert_allclose(in_chunks, at_once, atol=1e-4 * np.abs(at_once).max())


@pytest.mark.parametrize("quantization", [Type.F32, Type.Q4_1])
def test_sequences_of_different_lengths_in_a_batch_equal_each_alone(tmp_path: Path, quantization: Type) -> None:
    folder, manifest, _ = converted(tmp_path, quantization)
    prompts = [IDS[:3], IDS[2:9], IDS[5:6]]
    batch = GraphSession(folder, manifest.decoder, batch=3)
    lengths = [0, 0, 0]
    alone = [GraphSession(folder, manifest.decoder).all_logits(prompt) for prompt in prompts]
    for step in range(max(map(len, prompts))):
        # A sequence that is over repeats its last token in place, and its logits with it.
        positions = [min(step, len(prompt) - 1) for prompt in prompts]
        lengths = [position + 1 for position in positions]
        logits = batch.step([[prompt[p]] for prompt, p in zip(prompts, positions, strict=True)], lengths, range(3))
        for row, position in enumerate(positions):
            np.testing.assert_allclose(logits[row], alone[row][position], atol=2e-4 * np.abs(alone[row]).max())


def test_output_index_picks_rows_in_any_order_and_number(tmp_path: Path) -> None:
    folder, manifest, _ = converted(tmp_path, Type.Q4_1)
    everything = GraphSession(folder, manifest.decoder).all_logits(IDS)
    picked = GraphSession(folder, manifest.decoder).step([IDS], [len(IDS)], [11, 0, 4, 4])
    np.testing.assert_allclose(picked, everything[[11, 0, 4, 4]], atol=1e-4)
    assert GraphSession(folder, manifest.decoder).step([IDS], [len(IDS)], []).shape == (0, VOCABULARY)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantization", [Type.Q4_0, Type.Q4_1, Type.Q8_0])
def test_quantised_embedding_is_stored_once_and_never_as_floats(
    tmp_path: Path, quantization: Type, tied: bool
) -> None:
    folder, _, _ = converted(tmp_path, quantization, tied=tied)
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    table = [tensor for tensor in graph.initializer if tensor.name.startswith("token_embd")]
    assert [(tensor.name, tensor.data_type) for tensor in table] == [("token_embd.blocks", onnx.TensorProto.UINT8)]
    readers = [node.op_type for node in graph.node if "token_embd.blocks" in node.input]
    assert readers == (["GatherBlocks", "MatMulBlocks"] if tied else ["GatherBlocks"])
