"""Small ONNX graphs with named tensors, made in milliseconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
BIAS = np.array([1, -1, 0.5], np.float32)


def tensor(name: str, kind: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    domains: Sequence[str] = (),
) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_linear(path: Path) -> Path:
    """`x` FP32 [n, 4] -> `y` = x W + b FP32 [n, 3], `best` INT64 [n]."""
    return write_graph(
        path,
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"]),
            helper.make_node("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
        ],
        [tensor("x", TensorProto.FLOAT, ["n", 4])],
        [tensor("y", TensorProto.FLOAT, ["n", 3]), tensor("best", TensorProto.INT64, ["n"])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )


def linear(x: np.ndarray) -> np.ndarray:
    return x @ WEIGHT + BIAS


def write_names(path: Path) -> Path:
    """`name` BYTES [n], `id` INT64 [n, 1] -> `greeting` BYTES [n], `row` FP32 [n, 1, 2]: a table of five rows."""
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    return write_graph(
        path,
        [
            helper.make_node("Gather", ["table", "id"], ["row"]),
            helper.make_node(
                "LabelEncoder",
                ["name"],
                ["greeting"],
                domain="ai.onnx.ml",
                keys_strings=["ann", "zoë"],
                values_strings=["hello ann", "grüezi zoë"],
                default_string="who?",
            ),
        ],
        [tensor("name", TensorProto.STRING, ["n"]), tensor("id", TensorProto.INT64, ["n", 1])],
        [tensor("greeting", TensorProto.STRING, ["n"]), tensor("row", TensorProto.FLOAT, ["n", 1, 2])],
        [numpy_helper.from_array(table, "table")],
    )


def write_share(path: Path) -> Path:
    """`x` FP32 [n] -> `share` = x / sum of x: a row depends on the others."""
    return write_graph(
        path,
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=1),
            helper.make_node("Div", ["x", "sum"], ["share"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["n"])],
        [tensor("share", TensorProto.FLOAT, ["n"])],
    )


def write_external(folder: Path, location: str = "weights.bin") -> Path:
    """The linear graph with its weights in a file of their own."""
    path = write_linear(folder / "model.onnx")
    model = onnx.load(path)
    for constant in model.graph.initializer:
        onnx.external_data_helper.set_external_data(constant, location=location)
    place = folder / "weights.bin"
    with place.open("wb") as file:
        for constant in model.graph.initializer:
            offset = file.tell()
            file.write(constant.raw_data)
            entries = {"location": location, "offset": str(offset), "length": str(len(constant.raw_data))}
            del constant.external_data[:]
            constant.external_data.extend(
                onnx.StringStringEntryProto(key=key, value=value) for key, value in entries.items()
            )
            constant.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path


def write_echo(path: Path, kind: int) -> Path:
    """`x` of any type [n, m] -> `y`, the same."""
    return write_graph(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", kind, ["n", "m"])],
        [tensor("y", kind, ["n", "m"])],
    )
