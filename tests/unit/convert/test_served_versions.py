"""A version's own graph, read back: every family, every form of a matrix."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.served.rotation import read_rope
from devtools.convert.served.version import read_graph
from devtools.convert.source import WeightSource
from devtools.convert.verify.reference import Reference
from shared.errors import CorruptFile
from tests.support.models.family_files import build, open_directory, open_gguf, write_directory, write_gguf
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights

IN_GGUF = [name for name in CONFIGS if name not in {"qwen2_windows", "gemma3"}]


def sizes(arch: Architecture) -> Architecture:
    """All but what a graph does not say, or says in other words."""
    return replace(
        arch, attention=(), family="", tied_head=False, qkv_bias=False, attention_scale=None, norm_epsilon=0.0
    )


def check_same(arch: Architecture, source: WeightSource, read: Architecture, found: WeightSource) -> None:
    expected, logits = Reference(arch, source).logits(IDS), Reference(read, found).logits(IDS)
    np.testing.assert_allclose(logits, expected, atol=2e-6 * np.abs(expected).max())
    named = {name for name in source.names() if name != "rope_freqs"}
    if read.tied_head:  # a head that repeats the embedding is stored as one
        named.discard("output")
    missing = named - set(found.names())
    assert all(not source.vector(name).any() for name in missing), "only a bias of zeros may be left out"
    assert set(found.names()) <= named
    for name in found.names():
        assert found.shape(name) == source.shape(name), name
    assert read.norm_epsilon == pytest.approx(arch.norm_epsilon, rel=1e-6)
    assert sizes(read) == sizes(arch)
    for ours, theirs in zip(read.attention, arch.attention, strict=True):
        assert ours.window == theirs.window
        assert (ours.rope is None) == (theirs.rope is None)
        if ours.rope is not None and theirs.rope is not None:
            np.testing.assert_allclose(ours.rope.frequencies, theirs.rope.frequencies, rtol=1e-5, atol=1e-9)
            assert ours.rope.magnitude == pytest.approx(theirs.rope.magnitude, rel=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_graph_of_floats_is_read_back(tmp_path: Path, name: str) -> None:
    arch, source = open_directory(write_directory(tmp_path / "hf", CONFIGS[name], random_weights(CONFIGS[name])))
    spec = build(tmp_path / "out", arch, source)
    check_same(arch, source, *read_graph(tmp_path / "out", spec))


@pytest.mark.parametrize("quantization", [Type.Q4_0, Type.Q4_1, Type.Q8_0])
@pytest.mark.parametrize("name", IN_GGUF)
def test_a_quantised_graph_keeps_its_codes(tmp_path: Path, name: str, quantization: Type) -> None:
    arch, source = open_gguf(
        write_gguf(tmp_path / "model.gguf", CONFIGS[name], random_weights(CONFIGS[name]), quantization)
    )
    spec = build(tmp_path / "out", arch, source)
    read, found = read_graph(tmp_path / "out", spec)
    check_same(arch, source, read, found)
    for matrix in ("blk.0.attn_k", "blk.1.ffn_up", "token_embd"):
        assert found.type_name(matrix) != "F32"
        np.testing.assert_allclose(found.dequantise(matrix), source.dequantise(matrix), atol=1e-6)
        rows = np.array([2, 0])
        np.testing.assert_array_equal(found.dequantise(matrix, rows), found.dequantise(matrix)[rows])


@pytest.mark.parametrize("base", [1e4, 1e6])
def test_frequencies_survive_the_table_to_double_precision_of_slow_pairs(base: float) -> None:
    frequencies = base ** (-np.arange(0, 64, 2) / 64)
    angles = np.arange(8192)[:, None] * frequencies
    cos, sin = (function(angles).astype(np.float32) * np.float32(1.2) for function in (np.cos, np.sin))
    rope = read_rope("global", cos, sin)
    np.testing.assert_allclose(rope.frequencies, frequencies, atol=5e-11)
    assert rope.magnitude == pytest.approx(1.2)


def test_a_graph_of_another_program_is_refused(tmp_path: Path) -> None:
    name = next(iter(CONFIGS))
    arch, source = open_directory(write_directory(tmp_path / "hf", CONFIGS[name], random_weights(CONFIGS[name])))
    spec = build(tmp_path / "out", arch, source)
    path = tmp_path / "out" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"blk.1.qkv", b"blk.1.qkw"))
    with pytest.raises(CorruptFile, match=r"has no node 'blk\.1\.qkv'.*import the model again"):
        read_graph(tmp_path / "out", spec)
