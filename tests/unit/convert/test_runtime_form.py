"""Graphs in ONNX Runtime's own operators, loaded without LLMOS's, beside those that they were made from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from gguf import GGMLQuantizationType as Type
from onnx import TensorProto, helper

import operators
from devtools.convert.cuda.runtime_attention import spell_out_attention
from devtools.convert.decoder.architecture import Activation
from devtools.convert.decoder.block_linear import BlockLinear
from devtools.convert.graph.block_matrix import BlockMatrix
from devtools.convert.graph.float_form import with_float_activations
from devtools.convert.graph.nodes import MICROSOFT, GraphNodes
from devtools.convert.graph.runtime_form import spell_out_blocks
from devtools.convert.graph.weight_file import WeightFile
from tests.support.harness.graph_session import GraphSession
from tests.support.models.family_files import build, open_gguf, write_gguf
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights

ROWS, COLUMNS = 37, 96


def random_matrix(*, bits: int = 4, block: int = 32, offsets: bool = True, seed: int = 0) -> BlockMatrix:
    random = np.random.default_rng(seed)
    shape = (ROWS, COLUMNS // block)
    return BlockMatrix(
        bits,
        random.integers(0, 1 << bits, (ROWS, COLUMNS), np.uint8),
        random.standard_normal(shape).astype(np.float32) / (1 << bits),
        random.standard_normal(shape).astype(np.float32) if offsets else None,
    )


class Small:
    """A graph under construction with the inputs `x [1, S, width]` and `ids [1, S]`, and what it computes."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self._weights = WeightFile(folder / "model.onnx.data")
        self.nodes = GraphNodes(self._weights)
        self.linear = BlockLinear(self.nodes)

    def finish(self, outputs: Mapping[str, int]) -> onnx.ModelProto:
        """The model with outputs `[1, S, width]` by name."""
        with self._weights:
            pass
        put = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes.nodes,
            "small",
            [put("x", TensorProto.FLOAT, [1, "s", self.width]), put("ids", TensorProto.INT64, [1, "s"])],
            [put(name, TensorProto.FLOAT, [1, "s", size]) for name, size in outputs.items()],
            initializer=self._weights.initializers,
        )
        domains = {"": 21, MICROSOFT: 1, operators.DOMAIN: operators.VERSION}
        opsets = [helper.make_opsetid(*item) for item in domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def spelt_out(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model in ONNX Runtime's operators, with weights of its own."""
    spelt = onnx.ModelProto()
    spelt.CopyFrom(model)
    spell_out_attention(spelt)
    with WeightFile(folder / "spelt.data") as weights:
        for matrix in spell_out_blocks(spelt):
            matrix.write(folder, weights)
    spelt.graph.initializer.extend(weights.initializers)
    return spelt


def run(model: onnx.ModelProto, folder: Path, *, own: bool = False, **inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs; the session knows LLMOS's operators only with `own`."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    if own:
        operators.register(options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {put.name: inputs[put.name] for put in session.get_inputs()})


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("gate", [None, Activation.SILU, Activation.GELU_TANH])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("bits", [4, 8])
def test_product_and_rows_are_the_same(
    tmp_path: Path, bits: int, block: int, offsets: bool, gate: Activation | None
) -> None:
    matrix = random_matrix(bits=bits, block=block, offsets=offsets)
    small = Small(tmp_path, COLUMNS * (2 if gate else 1))
    bias = np.linspace(-1, 1, ROWS, dtype=np.float32)
    small.linear.multiply("x", matrix, "y", bias=bias, gate=gate, name="table")
    small.linear.gather("ids", matrix, "rows", name="table")
    model = small.finish({"y": ROWS, "rows": COLUMNS})
    spelt = spelt_out(model, tmp_path)
    x = np.random.default_rng(1).standard_normal((1, 5, small.width)).astype(np.float32)
    ids = np.array([[0, ROWS - 1, 7, 7, 20]])
    expected, expected_rows = run(with_float_activations(model), tmp_path, own=True, x=x, ids=ids)
    y, rows = run(with_float_activations(spelt), tmp_path, x=x, ids=ids)
    np.testing.assert_allclose(rows, expected_rows, atol=1e-6 * np.abs(expected_rows).max())
    np.testing.assert_allclose(rows[0], matrix.dequantise(ids[0]), atol=1e-6 * np.abs(rows).max())
    np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())


def test_nothing_of_the_own_operators_is_left(tmp_path: Path) -> None:
    small = Small(tmp_path, COLUMNS)
    small.linear.multiply("x", random_matrix(), "y")
    spelt = spelt_out(small.finish({"y": ROWS}), tmp_path)
    assert operators.DOMAIN not in {opset.domain for opset in spelt.opset_import}
    assert operators.DOMAIN not in {node.domain for node in spelt.graph.node}
    assert {entry.value for tensor in spelt.graph.initializer for entry in tensor.external_data[:1]} == {"spelt.data"}


def test_a_node_that_can_not_be_spelt_out_keeps_its_domain(tmp_path: Path) -> None:
    small = Small(tmp_path, COLUMNS)
    small.nodes.add("Unheard", [small.linear.multiply("x", random_matrix(), "z")], "y", domain=operators.DOMAIN)
    model = small.finish({"y": ROWS})
    spell_out_blocks(model)
    assert kinds(model)[-1] == "Unheard"
    assert operators.DOMAIN in {opset.domain for opset in model.opset_import}


def test_a_matrix_of_both_ends_is_stored_once(tmp_path: Path) -> None:
    matrix = random_matrix(bits=8)
    small = Small(tmp_path, COLUMNS)
    small.linear.multiply("x", matrix, "y", name="table")
    small.linear.gather("ids", matrix, "rows", name="table")
    spelt = spelt_out(small.finish({"y": ROWS, "rows": COLUMNS}), tmp_path)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in spelt.graph.initializer
        if tensor.external_data
    }
    assert places["table.packed"] == places["table.table"]
    sizes = {place["offset"]: int(place["length"]) for place in places.values()}
    floats = 4 * ROWS * COLUMNS // 32
    assert sorted(sizes.values()) == [floats, floats, floats, ROWS * COLUMNS]


def test_products_with_one_input_share_its_means(tmp_path: Path) -> None:
    small = Small(tmp_path, COLUMNS)
    small.linear.multiply("x", random_matrix(seed=1), "y")
    small.linear.multiply("x", random_matrix(seed=2), "z")
    small.linear.multiply("x", random_matrix(seed=3, block=16), "w")
    assert kinds(spelt_out(small.finish({"y": ROWS, "z": ROWS, "w": ROWS}), tmp_path)).count("AveragePool") == 2


@pytest.mark.parametrize("quantization", [Type.Q4_0, Type.Q4_1, Type.Q8_0])
@pytest.mark.parametrize("name", ["llama_biases", "mistral", "qwen2", "gemma3"])
def test_a_whole_decoder_is_the_same(tmp_path: Path, name: str, quantization: Type) -> None:
    config = CONFIGS[name]
    path = write_gguf(tmp_path / "a.gguf", config, random_weights(config), quantization)
    folder = tmp_path / "out"
    spec = build(folder, *open_gguf(path))
    before = GraphSession(folder, spec, float_activations=True).all_logits(IDS, chunk=5)
    spelt = spelt_out(onnx.load(folder / "model.onnx", load_external_data=False), folder)
    (folder / "model.onnx").write_bytes(spelt.SerializeToString())
    after = GraphSession(folder, spec, float_activations=True).all_logits(IDS, chunk=5)
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
