"""GGUF tensors in the form in which graphs multiply by them, without rounding; and plain dequantisation beside it.

What `pack` gives is decoded by LLMOS's own code (`graph.block_types`), `dequantise` is the definition in the `gguf`
library: comparing a graph with a forward pass on dequantised weights therefore also checks the decoding.
"""

import math
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from devtools.convert.gguf.file import GgufTensor
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.block_types import QUANTISED, is_finite
from devtools.convert.graph.file_matrix import FileMatrix
from shared.errors import CorruptFile, UnsupportedFormat

_CACHED = 1 << 16
_DENSE = (Type.F32, Type.F16, Type.BF16)
DENSE = tuple(kind.name for kind in _DENSE)
SUPPORTED = (*DENSE, *(kind.name for kind in QUANTISED))


def check_supported(tensor: GgufTensor) -> None:
    """Raise `UnsupportedFormat`, naming the tensor, its type and what is supported, unless the type is supported."""
    if tensor.type.name not in SUPPORTED:
        raise UnsupportedFormat(
            f"the tensor {tensor.name!r} is of type {tensor.type.name}; supported are {', '.join(SUPPORTED)}."
            " Take a file of one of these types, for example Q4_K_M (llama-quantize makes them)",
            param="source",
        )


def pack(tensor: GgufTensor) -> FileMatrix | Floats:
    """The two-dimensional `tensor` in the form in which the graph multiplies by it, without rounding.

    Returns:
        A `FileMatrix` for block types; float32 [N, K] for F32, F16 and BF16.

    Raises:
        UnsupportedFormat: any other type.
        CorruptFile: a scale or a weight that is not a finite number.
    """
    check_supported(tensor)
    if tensor.type in _DENSE:
        return dequantise(tensor)
    matrix = FileMatrix(tensor.type, (tensor.raw,))
    if not all(is_finite(tensor.type, piece) for piece in matrix.pieces()):
        raise _not_finite(tensor)
    return matrix


def dequantise(tensor: GgufTensor, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
    """The `rows` of the tensor as float32, by the definition of its type in the `gguf` library.

    Raises:
        UnsupportedFormat: an unsupported type.
        CorruptFile: a weight that is not a finite number.
    """
    check_supported(tensor)
    raw = tensor.raw[rows]
    values = np.empty((*raw.shape[:-1], tensor.shape[-1]), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # what a damaged file holds is judged below
        for here in _small_pieces(values):
            values[here] = gguf.quants.dequantize(np.ascontiguousarray(raw[here]), tensor.type)
    if not np.isfinite(values).all():
        raise _not_finite(tensor)
    return values


def _small_pieces(values: Floats) -> list[slice]:
    """Of the first axis: as many rows as stay in a processor's own cache, in which this is three times as fast."""
    if values.ndim < 2:
        return [slice(None)]
    step = max(_CACHED // math.prod(values.shape[1:]), 1)
    return [slice(start, start + step) for start in range(0, len(values), step)]


def _not_finite(tensor: GgufTensor) -> CorruptFile:
    return CorruptFile(
        f"the tensor {tensor.name!r} holds values that are not finite numbers; download or copy the file again",
        param="source",
    )
