"""Tensors in messages: raw, or in the fields of their types."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.gateway.http.parameters import Parameters
from services.gateway.open_inference.requests import (
    ALL_BINARY,
    BINARY,
    BINARY_SIZE,
    INPUT,
    MAX_TENSORS,
    OUTPUT,
    REQUEST,
    check_parameters,
)
from services.gateway.open_inference.rpc.open_inference_pb2 import InferTensorContents, ModelInferRequest
from shared.contracts.tensor import Tensor
from shared.errors import InvalidInput
from shared.tensors import DTYPES, count, describe, pack

_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Fields of `InferTensorContents` by data type; FP16 has none."""


def read_tensors(request: ModelInferRequest) -> tuple[tuple[Tensor, ...], tuple[bytes, ...]]:
    """The inputs of a request with their elements.

    Raises:
        InvalidInput: Elements are missing, given twice, in the wrong field, or more or fewer than the shape says;
            names the tensor.
        PayloadTooLarge: A tensor is larger than a request may be.
    """
    if not 1 <= len(request.inputs) <= MAX_TENSORS:
        raise InvalidInput(f"there are {len(request.inputs)} inputs; expected 1 to {MAX_TENSORS}", param="inputs")
    tensors = tuple(Tensor(name=put.name, datatype=put.datatype, shape=tuple(put.shape)) for put in request.inputs)
    raw = request.raw_input_contents
    if raw and len(raw) != len(tensors):
        raise InvalidInput(
            f"raw_input_contents has {len(raw)} entries for {len(tensors)} inputs; expected one for each",
            param="raw_input_contents",
        )
    buffers = []
    for index, (tensor, put) in enumerate(zip(tensors, request.inputs, strict=True)):
        filled = [field.name for field, _ in put.contents.ListFields()] if put.HasField("contents") else []
        if raw and filled:
            raise InvalidInput(
                f"the input {tensor.name!r:.100} has elements in {filled[0]} and in raw_input_contents; expected one"
                " of them",
                param=tensor.name[:100],
            )
        buffers.append(bytes(raw[index]) if raw else _typed(tensor, put.contents, filled))
    return tensors, tuple(buffers)


def check_request(request: ModelInferRequest) -> None:
    """Raise `InvalidInput` for a parameter that is unknown or not supported."""
    _check(request.parameters, REQUEST, "parameters", bools=(ALL_BINARY,))
    for put in request.inputs:
        _check(put.parameters, INPUT, "inputs.parameters", others=(BINARY_SIZE,))
    for out in request.outputs:
        _check(out.parameters, OUTPUT, "outputs.parameters", bools=(BINARY,))


def _check(given: Mapping[str, Any], known: Parameters, place: str, **served: tuple[str, ...]) -> None:
    values = {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in given.items()}
    check_parameters(values, known, place, **served)


def _typed(tensor: Tensor, contents: InferTensorContents, filled: list[str]) -> bytes:
    expected = count(tensor)
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        raise InvalidInput(
            f"the input {tensor.name!r:.100}: {tensor.datatype} has no typed contents; send raw_input_contents",
            param=tensor.name[:100],
        )
    if others := [name for name in filled if name != field]:
        raise InvalidInput(
            f"the input {tensor.name!r:.100} has elements in {others[0]}; those of {tensor.datatype} belong into"
            f" {field}",
            param=tensor.name[:100],
        )
    elements = getattr(contents, field)
    if len(elements) != expected:
        raise InvalidInput(
            f"the input {tensor.name!r:.100} has {len(elements)} elements; {describe(tensor)} has {expected}",
            param=tensor.name[:100],
        )
    if tensor.datatype == "BYTES":
        return pack(elements)
    dtype = DTYPES[tensor.datatype]
    wide = np.fromiter(elements, np.int64 if "INT" in tensor.datatype and dtype.itemsize < 8 else dtype, expected)
    if wide.dtype != dtype and expected:
        bounds = np.iinfo(dtype)
        outside = wide[(wide < bounds.min) | (wide > bounds.max)]
        if outside.size:
            raise InvalidInput(
                f"the input {tensor.name!r:.100} has the element {outside[0]}, which is no {tensor.datatype}",
                param=tensor.name[:100],
            )
    return wide.astype(dtype).tobytes()
