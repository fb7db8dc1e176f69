"""Tensors as lists in JSON: nested as their shape says, or flat."""

from itertools import chain
from typing import Any

import numpy as np

from shared.contracts.tensor import Tensor
from shared.errors import InvalidInput
from shared.tensors import DTYPES, count, describe, pack, texts, to_array, to_buffer, unpack

MAX_JSON_ELEMENTS = 1_000_000
"""Of the outputs of an answer: a JSON text of some 10 MB."""

_TAKEN: dict[str, tuple[tuple[type, ...], str]] = {
    "BOOL": ((bool,), "true or false"),
    "BYTES": ((str,), "strings"),
    **{name: ((int,), "whole numbers") for name in DTYPES if "INT" in name},
    **{name: ((int, float), "numbers") for name in DTYPES if name.startswith("FP")},
}
"""Python's types of the elements by data type, and their name."""


def from_json(tensor: Tensor, data: object) -> bytes:
    """The elements in a list as a buffer.

    Raises:
        InvalidInput: There are more or fewer than the shape says, they are nested in another way, or one is of
            another type or out of bounds; names the tensor.
        PayloadTooLarge: The tensor is larger than a request may be.
    """
    expected = count(tensor)
    flat = _flat(tensor, data)
    if len(flat) != expected:
        raise _wrong(tensor, f"has {len(flat)} elements; {describe(tensor)} has {expected}")
    types, name = _TAKEN[tensor.datatype]
    if found := set(map(type, flat)) - set(types):
        shown = min(kind.__name__ for kind in found)
        raise _wrong(tensor, f"has an element of the type {shown}; those of {tensor.datatype} are {name}")
    if tensor.datatype == "BYTES":
        return pack(_encoded(tensor, text) for text in flat)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, DTYPES[tensor.datatype])
    except OverflowError as error:
        raise _wrong(tensor, f"has an element that is no {tensor.datatype}: {error}") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _wrong(tensor, f"has an element that is too large for {tensor.datatype}")
    return to_buffer(array)


def to_json(tensor: Tensor, buffer: bytes) -> Any:
    """The elements of an output, flat: a list of strings, or an array of numbers for `orjson`.

    Raises:
        InvalidInput: JSON has no form for an element: a number that is not finite, bytes that are no text.
    """
    if tensor.datatype == "BYTES":
        try:
            return texts(tensor, unpack(tensor, buffer))
        except InvalidInput as error:
            raise InvalidInput(f"{error.message}; ask for this output as binary_data", param="outputs") from error
    array = to_array(tensor, buffer).ravel()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(
            f"the output {tensor.name!r} has numbers that JSON lacks (infinite or NaN); ask for it as binary_data",
            param="outputs",
        )
    return array


def _flat(tensor: Tensor, data: object) -> list[Any]:
    if not isinstance(data, list):
        raise _wrong(tensor, "has no list in data")
    flat, depth = data, 1
    while flat and any(isinstance(element, list) for element in flat):
        if depth == len(tensor.shape) or not all(isinstance(element, list) for element in flat):
            raise _wrong(tensor, f"has lists nested in another way than {describe(tensor)} says")
        if {len(element) for element in flat} != {tensor.shape[depth]}:
            raise _wrong(tensor, f"has lists of other lengths than {describe(tensor)} says")
        flat = list(chain.from_iterable(flat))
        depth += 1
    return flat


def _encoded(tensor: Tensor, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _wrong(tensor, "has half a surrogate pair in a string") from None


def _wrong(tensor: Tensor, problem: str) -> InvalidInput:
    return InvalidInput(f"the input {tensor.name!r:.100} {problem}", param=tensor.name[:100])
