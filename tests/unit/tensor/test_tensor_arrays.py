"""A request's tensors against the graph's: each mistake names the tensor, what was expected and what came."""

import numpy as np
import pytest

from services.inference.tensor.arrays import chosen_outputs, read_inputs, rows_of, write_outputs
from shared.contracts.tensor import Infer, Tensor, TensorSpec, TensorType
from shared.errors import InvalidInput, PayloadTooLarge

SPEC = TensorSpec(
    inputs=(
        TensorType(name="x", datatype="FP32", shape=(-1, 2)),
        TensorType(name="id", datatype="INT64", shape=(-1,)),
    ),
    outputs=(TensorType(name="y", datatype="FP32", shape=(-1,)),),
    batched=True,
)
X, ID = Tensor(name="x", datatype="FP32", shape=(2, 2)), Tensor(name="id", datatype="INT64", shape=(2,))


def infer(*tensors, buffers=None):
    width = {"FP32": 4, "INT64": 8, "FP64": 8, "INT32": 4}
    made = [b"\0" * width[tensor.datatype] * int(np.prod(tensor.shape)) for tensor in tensors]
    return Infer(request_id="r", inputs=tensors, buffers=tuple(made if buffers is None else buffers))


def test_arrays_come_in_the_order_of_the_graph():
    inputs = read_inputs(SPEC, infer(ID, X))
    assert list(inputs) == ["x", "id"]
    assert rows_of(SPEC, inputs) == 2
    assert rows_of(SPEC.model_copy(update={"batched": False}), inputs) is None


@pytest.mark.parametrize(
    ("tensors", "param", "part"),
    [
        ((X,), "id", r"the input 'id' is missing: expected INT64 \[any\]"),
        ((X, ID, ID), "inputs", "'id' is given twice"),
        ((X, ID, ID.model_copy(update={"name": "z"})), "z", r"no input 'z'; it takes x \(FP32 \[any, 2\]\), id"),
        ((X.model_copy(update={"datatype": "FP64"}), ID), "x", r"expected FP32 \[any, 2\], got FP64 \[2, 2\]"),
        ((X.model_copy(update={"shape": (4,)}), ID), "x", r"expected FP32 \[any, 2\], got FP32 \[4\]"),
        ((X.model_copy(update={"shape": (2, 3)}), ID), "x", r"expected FP32 \[any, 2\], got FP32 \[2, 3\]"),
        ((X.model_copy(update={"shape": (-2, 2)}), ID), "x", r"expected FP32 \[any, 2\], got FP32 \[-2, 2\]"),
        ((X.model_copy(update={"shape": (3, 2)}), ID), "id", "'id' has 2 rows and 'x' has 3"),
    ],
)
def test_what_is_wrong_is_named(tensors, param, part):
    with pytest.raises(InvalidInput, match=part) as caught:
        rows_of(SPEC, read_inputs(SPEC, infer(*tensors)))
    assert caught.value.param == param


def test_buffers_are_as_many_as_inputs():
    with pytest.raises(InvalidInput, match="2 inputs came with 1 buffers"):
        read_inputs(SPEC, infer(X, ID, buffers=[b""]))


def test_outputs_are_those_that_are_asked_for():
    assert chosen_outputs(SPEC, ()) == ("y",)
    assert chosen_outputs(SPEC, ("y", "y")) == ("y",)
    with pytest.raises(InvalidInput, match=r"no output 'z'; it gives y"):
        chosen_outputs(SPEC, ("z",))


def test_outputs_above_the_bound_are_refused():
    huge = np.broadcast_to(np.float32(0), (1 << 25,))
    with pytest.raises(PayloadTooLarge, match="134217728 bytes; at most 64 MiB"):
        write_outputs(SPEC, {"y": huge}, ("y",))
