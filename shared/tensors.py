"""Elements of named tensors: between NumPy's arrays and the buffers of `shared.contracts.tensor`. Pure."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.contracts.tensor import ANY_LENGTH, DATA_TYPES, MAX_TENSOR_BYTES, Tensor, TensorType
from shared.errors import InvalidInput, PayloadTooLarge

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
"""Of the arrays by data type; BYTES are arrays of strings."""
_LENGTH = 4
"""Bytes before each element of BYTES: its length."""
MAX_DIMENSIONS = 32
MAX_TEXTS = 1 << 20
"""Elements of a tensor of BYTES: each becomes an object."""


def describe(tensor: Tensor | TensorType) -> str:
    """Data type and shape for messages: `FP32 [2, 4]`."""
    lengths = ", ".join("any" if length == ANY_LENGTH else str(length) for length in tensor.shape)
    return f"{tensor.datatype} [{lengths}]"


def count(tensor: Tensor) -> int:
    """How many elements a tensor has.

    Raises:
        InvalidInput: Its data type is unknown, or its shape is none; names the tensor.
        PayloadTooLarge: It is larger than `MAX_TENSOR_BYTES`.
    """
    if tensor.datatype not in DTYPES:
        raise InvalidInput(
            f"the tensor {tensor.name!r:.100} has the datatype {tensor.datatype!r:.40}; known are"
            f" {', '.join(DATA_TYPES)}",
            param=tensor.name[:100],
        )
    if len(tensor.shape) > MAX_DIMENSIONS or any(length < 0 for length in tensor.shape):
        raise InvalidInput(
            f"the tensor {tensor.name!r:.100} has the shape {list(tensor.shape)!s:.100}; expected up to"
            f" {MAX_DIMENSIONS} lengths of 0 or more",
            param=tensor.name[:100],
        )
    elements = math.prod(tensor.shape)
    width = _LENGTH if tensor.datatype == "BYTES" else DTYPES[tensor.datatype].itemsize
    if tensor.datatype == "BYTES" and elements > MAX_TEXTS:
        raise PayloadTooLarge(
            f"the tensor {tensor.name!r:.100} has {elements} elements of BYTES; at most {MAX_TEXTS} are taken",
            param=tensor.name[:100],
        )
    if elements * width > MAX_TENSOR_BYTES:
        raise PayloadTooLarge(
            f"the tensor {tensor.name!r:.100} of shape {list(tensor.shape)!s:.100} has {elements * width} bytes or"
            f" more; at most {MAX_TENSOR_BYTES >> 20} MiB are taken",
            param=tensor.name[:100],
        )
    return elements


def to_array(tensor: Tensor, buffer: bytes) -> Array:
    """The elements in `buffer` as an array of the tensor's shape: BYTES as strings, all else without a copy.

    Raises:
        InvalidInput: The buffer has not the length that data type and shape ask for, or has elements that are none.
        PayloadTooLarge: As `count`.
    """
    elements = count(tensor)
    if tensor.datatype == "BYTES":
        array = np.empty(elements, object)
        array[:] = texts(tensor, unpack(tensor, buffer))
        return array.reshape(tensor.shape)
    dtype = DTYPES[tensor.datatype]
    if len(buffer) != elements * dtype.itemsize:
        raise InvalidInput(
            f"the tensor {tensor.name!r:.100} has {len(buffer)} bytes; {describe(tensor)} has"
            f" {elements * dtype.itemsize}",
            param=tensor.name[:100],
        )
    if tensor.datatype == "BOOL":
        flags = np.frombuffer(buffer, np.uint8)
        if flags.size and flags.max() > 1:
            raise InvalidInput(
                f"the tensor {tensor.name!r:.100} has the byte {flags.max()}; those of BOOL are 0 and 1",
                param=tensor.name[:100],
            )
        return flags.view(np.bool_).reshape(tensor.shape)
    return np.frombuffer(buffer, dtype).reshape(tensor.shape)


def to_buffer(array: Array) -> bytes:
    """The elements of an array as a buffer."""
    if array.dtype.kind in "OUS":
        return pack(str(element).encode() for element in array.ravel())
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()


def pack(elements: Iterable[bytes]) -> bytes:
    """Elements of BYTES as a buffer."""
    return b"".join(part for element in elements for part in (len(element).to_bytes(_LENGTH, "little"), element))


def unpack(tensor: Tensor, buffer: bytes) -> list[bytes]:
    """The elements of a tensor of BYTES.

    Raises:
        InvalidInput: One is cut off, which it names, or there are more or fewer than the shape says.
        PayloadTooLarge: As `count`.
    """
    elements = count(tensor)
    found: list[bytes] = []
    at, end = 0, len(buffer)
    while at < end:
        length = int.from_bytes(buffer[at : at + _LENGTH], "little")
        begin = at + _LENGTH
        at = begin + length
        if at > end:
            raise InvalidInput(
                f"the tensor {tensor.name!r:.100}: element {len(found)} is cut off; expected a length in {_LENGTH}"
                " bytes, and then so many bytes",
                param=tensor.name[:100],
            )
        if len(found) == elements:
            raise InvalidInput(
                f"the tensor {tensor.name!r:.100} has more than the {elements} elements of {describe(tensor)}",
                param=tensor.name[:100],
            )
        found.append(buffer[begin:at])
    if len(found) != elements:
        raise InvalidInput(
            f"the tensor {tensor.name!r:.100} has {len(found)} elements; {describe(tensor)} has {elements}",
            param=tensor.name[:100],
        )
    return found


def texts(tensor: Tensor, elements: Sequence[bytes]) -> list[str]:
    """Elements of BYTES as strings; raises `InvalidInput` naming the one that is no UTF-8."""
    found = []
    for index, element in enumerate(elements):
        try:
            found.append(element.decode())
        except UnicodeDecodeError:
            raise InvalidInput(
                f"the tensor {tensor.name!r:.100}: element {index} is no text in UTF-8, which the model expects",
                param=tensor.name[:100],
            ) from None
    return found
