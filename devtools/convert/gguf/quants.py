"""GGUF tensors in the form in which graphs multiply by them, without rounding; and plain dequantisation beside it.

`pack` uses LLMOS's own decoding (`gguf_blocks`), `dequantise` the definition in the `gguf` library: comparing a graph
with a forward pass on dequantised weights therefore also checks the decoding.
"""

from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from devtools.convert.gguf.blocks import QUANTISED, decode
from devtools.convert.gguf.file import GgufTensor
from devtools.convert.graph.block_matrix import BlockMatrix, Floats
from shared.errors import CorruptFile, UnsupportedFormat

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


def pack(tensor: GgufTensor) -> BlockMatrix | Floats:
    """The two-dimensional `tensor` in the form in which the graph multiplies by it, without rounding.

    Returns:
        A `BlockMatrix` for block types; float32 [N, K] for F32, F16 and BF16.

    Raises:
        UnsupportedFormat: any other type.
        CorruptFile: a scale or a weight that is not a finite number.
    """
    check_supported(tensor)
    if tensor.type in _DENSE:
        return dequantise(tensor)
    matrix = decode(tensor.type, tensor.raw)
    for values in (matrix.scales, matrix.offset):
        if values is not None:
            _check_finite(tensor, values)
    return matrix


def dequantise(tensor: GgufTensor, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
    """The `rows` of the tensor as float32, by the definition of its type in the `gguf` library.

    Raises:
        UnsupportedFormat: an unsupported type.
        CorruptFile: a weight that is not a finite number.
    """
    check_supported(tensor)
    raw = np.ascontiguousarray(tensor.raw[rows])
    with np.errstate(invalid="ignore", over="ignore"):  # what a damaged file holds is judged below
        values = np.asarray(gguf.quants.dequantize(raw, tensor.type), np.float32)
    _check_finite(tensor, values)
    return values.reshape(*raw.shape[:-1], tensor.shape[-1])


def _check_finite(tensor: GgufTensor, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise CorruptFile(
            f"the tensor {tensor.name!r} holds values that are not finite numbers; download or copy the file again",
            param="source",
        )
