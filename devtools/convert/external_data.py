"""The weights that a graph keeps outside its file, wherever in the graph they are."""

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from shared.errors import CorruptFile

_BITS: dict[int, int] = {
    onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4, onnx.TensorProto.FLOAT4E2M1: 4,
    onnx.TensorProto.INT2: 2, onnx.TensorProto.UINT2: 2,
}  # fmt: skip
"""Of the types of which several elements share a byte."""


def data_files(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """The files beside `path` that have weights of its graph.

    Raises:
        CorruptFile: A file lies elsewhere or is missing, or a tensor is not what its file can hold.
    """
    places: set[str] = set()
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            places.add(_place(path, tensor))
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != _bytes(path, tensor):
            raise _corrupt(path, tensor, f"has {len(tensor.raw_data):,} bytes")
    return tuple(path.parent / place for place in sorted(places))


def _place(path: Path, tensor: onnx.TensorProto) -> str:
    """The name of its file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = entries.get("location", "")
    if not place or Path(place).name != place or not (path.parent / place).is_file():
        raise CorruptFile(
            f"{path.name} keeps weights in {place[:80]!r}; expected a file that lies beside it", param="source"
        )
    if place == "model.onnx":
        raise CorruptFile(f"{path.name} keeps weights in model.onnx itself", param="source")
    size = (path.parent / place).stat().st_size
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", _bytes(path, tensor)))
    except ValueError:
        raise _corrupt(path, tensor, "lies at a place that is no number") from None
    if length != _bytes(path, tensor) or offset < 0 or offset + length > size:
        raise _corrupt(path, tensor, f"lies in bytes {offset:,} to {offset + length:,} of {place} ({size:,} bytes)")
    return place


def _bytes(path: Path, tensor: onnx.TensorProto) -> int:
    """What its shape needs."""
    if any(length < 0 for length in tensor.dims):
        raise _corrupt(path, tensor, "has a negative length")
    count = math.prod(tensor.dims)
    if (bits := _BITS.get(tensor.data_type)) is not None:
        return -(-count * bits // 8)
    try:
        return count * int(tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError):
        raise _corrupt(path, tensor, f"is of the unknown type {tensor.data_type}") from None


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors: also those of nodes, and of the graphs inside nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _corrupt(path: Path, tensor: onnx.TensorProto, what: str) -> CorruptFile:
    shape = str(list(tensor.dims))[:80]
    return CorruptFile(f"{path.name}: the tensor {tensor.name[:80]!r} of shape {shape} {what}", param="source")
