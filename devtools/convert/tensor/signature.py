"""The tensors that a graph takes and returns, as its file says."""

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from shared.contracts.tensor import ANY_LENGTH, DataType, TensorSpec, TensorType
from shared.errors import UnsupportedFormat

MAX_TENSORS = 256
MAX_NAME = 256
MAX_RANK = 16

_DATA_TYPES: dict[int, DataType] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
_ADVICE = {
    "sequence_type": "; a classifier of scikit-learn gives tensors if it is exported with options={'zipmap': False}",
    "map_type": "; a classifier of scikit-learn gives tensors if it is exported with options={'zipmap': False}",
}


def read_signature(path: Path, model: onnx.ModelProto) -> TensorSpec:
    """Inputs and outputs with their data types and shapes; `batched` where the first length of all is open.

    Raises:
        UnsupportedFormat: An input or output is no tensor, or of a type or shape that can't be served; names it.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [put for put in model.graph.input if put.name not in constants]
    outputs = list(model.graph.output)
    if not inputs or not outputs or len(inputs) + len(outputs) > MAX_TENSORS:
        raise UnsupportedFormat(
            f"{path.name} has {len(inputs)} inputs and {len(outputs)} outputs; expected 1 or more of each, and"
            f" {MAX_TENSORS} in all",
            param="source",
        )
    taken = tuple(_tensor(path, "input", put) for put in inputs)
    given = tuple(_tensor(path, "output", put) for put in outputs)
    rows = all(put.shape[:1] == (ANY_LENGTH,) for put in (*taken, *given))
    return TensorSpec(inputs=taken, outputs=given, batched=rows)


def _tensor(path: Path, kind: str, put: Any) -> TensorType:
    what = f"{path.name}: the {kind} {put.name[:100]!r}"
    form = put.type.WhichOneof("value")
    if form != "tensor_type":
        shown = (form or "nothing").removesuffix("_type")
        raise UnsupportedFormat(f"{what} is no tensor, but a {shown}{_ADVICE.get(form, '')}", param="source")
    tensor = put.type.tensor_type
    if tensor.elem_type not in _DATA_TYPES:
        name = (
            TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in TensorProto.DataType.values() else "?"
        )
        raise UnsupportedFormat(f"{what} is of the type {name}; cast it to one that clients have", param="source")
    if not tensor.HasField("shape"):
        raise UnsupportedFormat(
            f"{what} has no shape; export the graph with the shapes of its tensors", param="source"
        )
    shape = tuple(_length(dimension) for dimension in tensor.shape.dim)
    if not put.name or len(put.name) > MAX_NAME or len(shape) > MAX_RANK:
        raise UnsupportedFormat(
            f"{what} has a name of {len(put.name)} characters and {len(shape)} dimensions; expected 1 to {MAX_NAME},"
            f" and at most {MAX_RANK}",
            param="source",
        )
    return TensorType(name=put.name, datatype=_DATA_TYPES[tensor.elem_type], shape=shape)


def _length(dimension: Any) -> int:
    """A fixed length; what is named, left open or negative is for requests to choose."""
    fixed = dimension.WhichOneof("value") == "dim_value"
    return int(dimension.dim_value) if fixed and dimension.dim_value >= 0 else ANY_LENGTH
