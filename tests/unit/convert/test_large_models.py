"""What a model of billions of weights needs: memory for pieces only, files beyond 2 GB, nothing left after a kill."""

import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from gguf import GGMLQuantizationType as Type
from onnx import TensorProto, helper

import operators
from devtools.convert import convert_gguf
from devtools.convert.decoder.block_linear import BlockLinear
from devtools.convert.graph.block_types import decode
from devtools.convert.graph.file_matrix import FileMatrix
from devtools.convert.graph.nodes import GraphNodes
from devtools.convert.graph.weight_file import WeightFile, read_initializer
from devtools.convert.quantise.source import QuantisedSource
from devtools.convert.verify.reference import Reference
from devtools.convert.verify.stages import stages
from operators.layout import FILE_TYPES, interleave
from tests.support.harness.compose import ROOT
from tests.support.models.gguf_blocks import random_blocks
from tests.support.models.llama_files import write_llama

ROWS, COLUMNS = 4096, 4096
"""64 MiB as floats; a piece has 4."""
LIMIT = 32 << 20


@contextmanager
def little_memory() -> Iterator[None]:
    """What Python and NumPy allocate inside stays below `LIMIT`, whatever was there before."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LIMIT


class OneMatrix:
    """A source with one matrix of floats that are computed when they are asked for."""

    def shape(self, _name: str) -> tuple[int, int]:
        return ROWS, COLUMNS

    def has(self, _name: str) -> bool:
        return False

    def dequantise(self, _name: str, rows: slice = slice(None)) -> np.ndarray:
        angles = np.arange(ROWS, dtype=np.float32)[rows, None] + np.arange(COLUMNS, dtype=np.float32)
        return np.sin(angles, out=angles)


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q2_K])
def test_a_matrix_is_written_in_pieces(tmp_path: Path, kind: Type) -> None:
    raw = random_blocks(kind, ROWS, COLUMNS)
    with WeightFile(tmp_path / "data") as weights, little_memory():
        BlockLinear(GraphNodes(weights)).multiply("x", FileMatrix(kind, (raw[: ROWS // 2], raw[ROWS // 2 :])), "y")
    stored = read_initializer(weights.initializers[0], tmp_path)
    expected = interleave(raw, FILE_TYPES["Q4_K"]) if kind is Type.Q4_K else [*decode(kind, raw).packed()]
    assert np.array_equal(stored, np.concatenate([part.reshape(-1) for part in expected]))


def test_the_reference_has_a_piece_of_a_matrix_as_floats_at_a_time() -> None:
    source, x = OneMatrix(), np.ones((2, COLUMNS), np.float32)
    with little_memory():
        product = Reference(None, source)._linear(x, "m")  # type: ignore[arg-type]  # of one matrix
    np.testing.assert_allclose(product, x @ source.dequantise("m").T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_a_matrix_is_quantised_in_pieces(tmp_path: Path, scheme: str) -> None:
    source = QuantisedSource(OneMatrix(), scheme, tmp_path)  # type: ignore[arg-type]  # has what is asked for
    with little_memory():
        matrix = source.matrix("blk.0.ffn_up")
    rows = slice(1000, 1010)
    np.testing.assert_allclose(
        matrix.dequantise(rows), OneMatrix().dequantise("m", rows), atol=0.08 if scheme == "int4" else 0.005
    )


def test_stages_share_no_weights_and_are_all_of_the_graph(tmp_path: Path) -> None:
    convert_gguf(write_llama(tmp_path / "a.gguf", Type.Q8_0), tmp_path / "out")
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    parts = list(stages(model))
    assert [node.name for part in parts for node in part.graph.node] == [node.name for node in model.graph.node]
    assert len(parts) == 2 + 2  # embedding, two layers, head
    large = [{tensor.name for tensor in part.graph.initializer if ".blocks" in tensor.name} for part in parts]
    assert large[0] == {"token_embd.blocks"} == large[-1]
    assert not large[1] & large[2]


def test_weights_beyond_two_gigabytes_are_found(tmp_path: Path) -> None:
    """A matrix of 2.3 GB, all but its last rows a hole in the file, and one behind it."""
    kind, columns = FILE_TYPES["Q8_0"], 4096
    row_bytes = columns // kind.columns * kind.size
    rows = ((9 << 28) // row_bytes + 1) // 16 * 16
    last = random_blocks(Type.Q8_0, 16, columns)
    expected = FileMatrix(Type.Q8_0, (last,)).dequantise()

    def pieces() -> Iterator[np.ndarray]:
        file = weights._file  # a hole instead of zeros
        file.seek((rows - 16) * row_bytes)
        weights.size = (rows - 16) * row_bytes
        yield interleave(last, kind)

    with WeightFile(tmp_path / "model.onnx.data") as weights:
        weights.add_pieces("large", rows * row_bytes, pieces())
        weights.add("behind", np.arange(5, dtype=np.float32))
    assert weights.size > 2 << 30
    nodes = [
        helper.make_node(
            "GatherBlocks",
            ["ids", "large"],
            ["rows"],
            domain=operators.DOMAIN,
            N=rows,
            K=columns,
            gate=0,
            ggml_type=8,
        ),
        helper.make_node("Identity", ["behind"], ["copy"]),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("rows", "copy")],
        initializer=weights.initializers,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(operators.DOMAIN, operators.VERSION)]
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    options = onnxruntime.SessionOptions()
    operators.register(options)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found, behind = session.run(None, {"ids": np.array([rows - 16, rows - 1, 0])})
    np.testing.assert_array_equal(found[:2], expected[[0, 15]])
    assert not found[2].any()
    np.testing.assert_array_equal(behind, np.arange(5, dtype=np.float32))


_KILLED = """
import os, signal, sys
from pathlib import Path
from devtools.convert import convert_gguf

def progress(stage, fraction):
    if stage == sys.argv[3] and fraction > 0:
        os.kill(os.getpid(), signal.SIGKILL)

convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]), quantize=sys.argv[4], progress=progress)
"""


@pytest.mark.parametrize(
    ("stage", "quantize"), [("build", "auto"), ("check", "auto"), ("build", "int8"), ("compare", "int8")]
)
def test_an_import_that_is_killed_leaves_nothing_after_the_next(tmp_path: Path, stage: str, quantize: str) -> None:
    source = write_llama(tmp_path / "a.gguf", Type.F16 if quantize != "auto" else Type.Q8_0)
    command = [sys.executable, "-P", "-c", _KILLED, source, tmp_path / "out", stage, quantize]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    convert_gguf(source, tmp_path / "out", quantize=quantize)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "out"]
