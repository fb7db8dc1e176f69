"""Every quantised type through a whole import: GGUF to graph, compared with numpy on `gguf`'s own dequantisation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_gguf
from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import read_gguf
from devtools.convert.gguf.source import GgufSource
from devtools.convert.graph.matrices import stored_matrix
from devtools.convert.graph.weight_file import read_initializer
from devtools.convert.verify.reference import Reference
from shared.contracts.manifest import Manifest
from shared.errors import InvalidInput
from tests.support.harness.graph_session import GraphSession
from tests.support.models.gguf_blocks import HALVES, random_blocks
from tests.support.models.llama_files import VOCABULARY, write_llama

HIDDEN = 256
"""A super-block has 256 weights."""
IDS = [1, 70, 14, 260, 33, 5, 200, 99, 42, 180, 7, 66]
MATRICES = {
    "attn_q": HIDDEN,
    "attn_k": HIDDEN // 2,
    "attn_v": HIDDEN // 2,
    "attn_output": HIDDEN,
    "ffn_gate": HIDDEN,
    "ffn_up": HIDDEN,
    "ffn_down": HIDDEN,
}

STORED = {"embedded": ["token_embd"], "output_logits": ["output"]} | {
    f"blk.{layer}.{node}": [f"blk.{layer}.{part}" for part in parts]
    for layer in range(2)
    for node, parts in {
        "qkv": ["attn_q", "attn_k", "attn_v"],
        "attn_out": ["attn_output"],
        "gate_up": ["ffn_gate", "ffn_up"],
        "down": ["ffn_down"],
    }.items()
}
"""Of which tensors the matrix is made that a node reads."""


def write(path: Path, kinds: Mapping[str, Type], default: Type, *, tied: bool = True) -> Path:
    """A Llama of two layers with matrices in the types that `kinds` gives for a part of their names."""
    rows = {f"blk.{layer}.{part}.weight": rows for layer in range(2) for part, rows in MATRICES.items()}
    rows |= {"token_embd.weight": VOCABULARY} | ({} if tied else {"output.weight": VOCABULARY})
    types = {name: next((kind for part, kind in kinds.items() if part in name), default) for name in rows}
    extra: dict[str, np.ndarray[Any, Any]] = {
        name: random_blocks(types[name], rows[name], HIDDEN, seed=number)
        if types[name] in HALVES
        else np.random.default_rng(number).standard_normal((rows[name], HIDDEN)).astype(np.float32) / 16
        for number, name in enumerate(rows)
    }
    norms = ["output_norm", *(f"blk.{layer}.{kind}_norm" for layer in range(2) for kind in ("attn", "ffn"))]
    extra |= {f"{name}.weight": np.ones(HIDDEN, np.float32) for name in norms}
    sizes = {
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": HIDDEN,
        "llama.rope.dimension_count": HIDDEN // 4,
    }
    return write_llama(path, types=types, extra=extra, metadata=sizes)


def converted(tmp_path: Path, source: Path) -> tuple[Path, Manifest, np.ndarray]:
    gguf = read_gguf(source)
    expected = Reference(read_architecture(gguf), GgufSource(gguf)).logits(IDS)
    return tmp_path / "out", convert_gguf(source, tmp_path / "out"), expected


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [*HALVES, Type.BF16])
def test_graph_computes_what_the_weights_say(tmp_path: Path, kind: Type, tied: bool) -> None:
    folder, manifest, expected = converted(tmp_path, write(tmp_path / "a.gguf", {}, kind, tied=tied))
    exact = GraphSession(folder, manifest.decoder, float_activations=True).all_logits(IDS)
    np.testing.assert_allclose(exact, expected, atol=3e-4 * np.abs(expected).max())
    served = GraphSession(folder, manifest.decoder).all_logits(IDS)
    assert np.sqrt(np.mean((served - expected) ** 2) / np.mean(expected**2)) < 0.05
    assert manifest.lineage.quantization == kind.name


@pytest.mark.parametrize("kind", HALVES)
def test_graph_stores_exactly_the_weights_of_the_file_and_nothing_beside_them(tmp_path: Path, kind: Type) -> None:
    source = write(tmp_path / "a.gguf", {}, kind, tied=False)
    convert_gguf(source, tmp_path / "out")
    graph = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False).graph
    readers = {node.name: node for node in graph.node if node.op_type in ("MatMulBlocks", "GatherBlocks")}
    assert readers.keys() == STORED.keys()
    assert not {"MatMul", "MatMulNBits", "AveragePool"} & {node.op_type for node in graph.node}
    stored, original = {tensor.name: tensor for tensor in graph.initializer}, GgufSource(read_gguf(source))
    for name, tensors in STORED.items():
        matrix = read_initializer(stored[readers[name].input[1]], tmp_path / "out")
        expected = np.concatenate([original.dequantise(tensor) for tensor in tensors])
        attributes = {attribute.name: attribute.i for attribute in readers[name].attribute}
        np.testing.assert_array_equal(stored_matrix(matrix, attributes).dequantise(), expected)
        if kind not in (Type.Q2_K, Type.Q3_K):  # as large as in the file, but for rows that fill a group
            groups = -(-len(expected) // 16)
            assert matrix.nbytes == groups * 16 * original.matrix(tensors[0]).parts[0].shape[1]


def test_mixed_file_joins_what_can_be_joined(tmp_path: Path) -> None:
    """As llama.cpp's Q4_K_M: the value and down matrices and the embedding in more bits."""
    kinds = {"attn_v": Type.Q6_K, "blk.0.ffn_down": Type.Q6_K, "token_embd": Type.Q6_K}
    folder, manifest, expected = converted(tmp_path, write(tmp_path / "a.gguf", kinds, Type.Q4_K))
    exact = GraphSession(folder, manifest.decoder, float_activations=True).all_logits(IDS)
    np.testing.assert_allclose(exact, expected, atol=3e-4 * np.abs(expected).max())
    assert manifest.lineage.quantization == "Q4_K"
    nodes = [node.name for node in onnx.load(folder / "model.onnx", load_external_data=False).graph.node]
    assert [name for name in nodes if name.startswith("blk.0.qkv.") and name.endswith((".0", ".1", ".2"))] == [
        "blk.0.qkv.0",
        "blk.0.qkv.1",
    ]


def test_floats_of_a_gguf_are_quantised_when_asked_and_others_are_not(tmp_path: Path) -> None:
    source = write(tmp_path / "a.gguf", {}, Type.BF16, tied=False)
    gguf = read_gguf(source)
    expected = Reference(read_architecture(gguf), GgufSource(gguf)).logits(IDS)
    manifest = convert_gguf(source, tmp_path / "out", quantize="int8")
    logits = GraphSession(tmp_path / "out", manifest.decoder).all_logits(IDS)
    assert np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2)) < 0.05
    assert manifest.lineage.quantization == "int8"
    with pytest.raises(InvalidInput, match=r"quantised already.*Q4_K.*--quantize auto"):
        convert_gguf(write(tmp_path / "b.gguf", {}, Type.Q4_K), tmp_path / "other", quantize="int4")
