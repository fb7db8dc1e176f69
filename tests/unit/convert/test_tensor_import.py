"""ONNX graphs with named tensors: what is taken, and what is refused by name."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from devtools.convert.tensor.version import convert_tensor, tensor_digest
from services.inference.replica.smoke_test import check_tensors
from services.inference.runtime.onnx_tensors import OnnxTensors
from shared.contracts.tensor import MAX_QUEUED_BYTES
from shared.errors import CorruptFile, InvalidInput, UnsupportedFormat
from tests.support.models.tensor_graphs import (
    linear,
    tensor,
    write_echo,
    write_external,
    write_graph,
    write_linear,
    write_names,
    write_share,
)

X = np.array([[1, 2, 3, 4], [0, -1, 0, 1]], np.float32)


def imported(path, tmp_path):
    manifest = convert_tensor(path, tmp_path / "version")
    return manifest, OnnxTensors(tmp_path / "version", manifest.the_tensor, threads=1)


def test_a_graph_is_served_with_the_tensors_that_its_file_names(tmp_path):
    manifest, graph = imported(write_linear(tmp_path / "iris.onnx"), tmp_path)
    spec = manifest.the_tensor
    assert [(put.name, put.datatype, put.shape) for put in (*spec.inputs, *spec.outputs)] == [
        ("x", "FP32", (-1, 4)),
        ("y", "FP32", (-1, 3)),
        ("best", "INT64", (-1,)),
    ]
    assert spec.batched
    assert (manifest.task, manifest.context_length, manifest.lineage.source) == ("tensor", 1, "iris.onnx")
    assert manifest.lineage.source_digest == tensor_digest(tmp_path / "iris.onnx")
    outputs = graph.run({"x": X}, ["y", "best"])
    np.testing.assert_allclose(outputs["y"], linear(X), rtol=1e-6)
    assert outputs["best"].tolist() == linear(X).argmax(axis=1).tolist()
    check_tensors(graph, spec, manifest.smoke_test)
    wrong = manifest.smoke_test.model_copy(update={"output": tuple(5 + x for x in manifest.smoke_test.output)})
    with pytest.raises(CorruptFile, match="other numbers than at import"):
        check_tensors(graph, spec, wrong)


def test_texts_are_strings(tmp_path):
    manifest, graph = imported(write_names(tmp_path / "names.onnx"), tmp_path)
    assert manifest.the_tensor.batched
    names, ids = np.array(["zoë", "bob"], object), np.array([[4], [0]])
    outputs = graph.run({"name": names, "id": ids}, ["greeting", "row"])
    assert outputs["greeting"].tolist() == ["grüezi zoë", "who?"]
    assert outputs["row"].tolist() == [[[8, 9]], [[0, 1]]]
    with pytest.raises(InvalidInput, match="out of data bounds"):
        graph.run({"name": names, "id": ids + 1}, ["row"])


def test_rows_that_depend_on_one_another_are_not_batched(tmp_path):
    manifest, _ = imported(write_share(tmp_path / "share.onnx"), tmp_path)
    assert not manifest.the_tensor.batched


@pytest.mark.parametrize("kind", ["BOOL", "UINT8", "INT16", "FLOAT16", "DOUBLE", "UINT64", "STRING"])
def test_every_type_runs(tmp_path, kind):
    manifest, _ = imported(write_echo(tmp_path / "echo.onnx", TensorProto.DataType.Value(kind)), tmp_path)
    assert manifest.the_tensor.batched


def test_the_memory_counts_a_batch_and_what_waits(tmp_path):
    wide = write_graph(
        tmp_path / "wide.onnx",
        [
            helper.make_node("Tile", ["x", "times"], ["wide"]),
            helper.make_node("ReduceMax", ["wide"], ["y"], axes=[1]),
        ],
        [tensor("x", TensorProto.FLOAT, ["n", 100])],
        [tensor("y", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor("times", TensorProto.INT64, [2], [1, 1000])],
    )
    need = convert_tensor(wide, tmp_path / "version").memory
    assert need.activations == 4 * 32 * 400_000 + MAX_QUEUED_BYTES
    assert need.kv_per_token == 0


def test_weights_beside_the_file_come_with_it(tmp_path):
    _, graph = imported(write_external(tmp_path / "source"), tmp_path)
    np.testing.assert_allclose(graph.run({"x": X}, ["y"])["y"], linear(X), rtol=1e-6)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "other.bin", ""])
def test_weights_elsewhere_are_refused(tmp_path, location):
    path = write_external(tmp_path / "source", location)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(CorruptFile, match="beside it"):
        convert_tensor(path, tmp_path / "version")
    assert not (tmp_path / "version").exists()


def test_a_link_to_weights_elsewhere_is_refused(tmp_path):
    path = write_external(tmp_path / "source")
    weights = path.parent / "weights.bin"
    weights.rename(tmp_path / "secret")
    weights.symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match="outside"):
        convert_tensor(path, tmp_path / "version")


def test_custom_operators_are_refused_by_name(tmp_path):
    path = write_graph(
        tmp_path / "custom.onnx",
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.acme")],
        [tensor("x", TensorProto.FLOAT, ["n"])],
        [tensor("y", TensorProto.FLOAT, ["n"])],
        domains=["com.acme"],
    )
    with pytest.raises(UnsupportedFormat, match=r"com\.acme \(com\.acme\.Frobnicate\)"):
        convert_tensor(path, tmp_path / "version")


def zipmap() -> onnx.ValueInfoProto:
    element = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return helper.make_value_info("probabilities", helper.make_sequence_type_proto(element))


@pytest.mark.parametrize(
    ("output", "part"),
    [
        (zipmap(), "the output 'probabilities' is no tensor, but a sequence; .*zipmap"),
        (tensor("y", TensorProto.BFLOAT16, ["n"]), "'y' is of the type BFLOAT16"),
        (helper.make_tensor_value_info("y", TensorProto.FLOAT, None), "'y' has no shape"),
        (tensor("y", TensorProto.FLOAT, ["n"] * 17), "17 dimensions"),
    ],
)
def test_what_is_no_servable_tensor_is_refused_by_name(tmp_path, output, part):
    path = write_graph(
        tmp_path / "graph.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n"])],
        [output],
    )
    with pytest.raises(UnsupportedFormat, match=part):
        convert_tensor(path, tmp_path / "version")


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08 nothing of the kind")
    with pytest.raises(CorruptFile, match=r"model\.onnx is not an ONNX file"):
        convert_tensor(path, tmp_path / "version")
    path.write_bytes(write_linear(tmp_path / "whole.onnx").read_bytes()[:-40])
    with pytest.raises((CorruptFile, UnsupportedFormat)):
        convert_tensor(path, tmp_path / "version")
