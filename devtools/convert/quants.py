"""GGUF tensor types: exact repacking into `MatMulNBits` form, and plain dequantisation as the reference.

A quantised row of K weights is K/32 blocks. `com.microsoft.MatMulNBits` without zero points holds
`w = scale * (q - 2**(bits - 1))`; what a GGUF type adds to that is a constant per block, the `offset`:

    Q4_0   d * (q - 8)                         4 bits, no offset
    Q4_1   d * q + m  =  d * (q - 8) + (m + 8d)   4 bits, offset m + 8d
    Q8_0   d * q, q signed                     8 bits (stored as q + 128), no offset

so no weight is rounded. Block layouts: ggml-common.h (`block_q4_0`, `block_q4_1`, `block_q8_0`).
"""

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from devtools.convert.block_matrix import BLOCK, BlockMatrix, Bytes, Floats
from devtools.convert.gguf_file import GgufTensor
from shared.errors import UnsupportedFormat

__all__ = ["BLOCK", "SUPPORTED", "BlockMatrix", "Floats", "check_supported", "dequantise", "pack"]

SUPPORTED = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0")


def check_supported(tensor: GgufTensor) -> None:
    """Raise `UnsupportedFormat`, naming the tensor, its type and what is supported, unless the type is supported."""
    if tensor.type.name not in SUPPORTED:
        raise UnsupportedFormat(
            f"the tensor {tensor.name!r} is of type {tensor.type.name}; supported are {', '.join(SUPPORTED)}."
            " Take a file of one of these types (llama-quantize makes them)",
            param="source",
        )


def pack(tensor: GgufTensor) -> BlockMatrix | Floats:
    """The two-dimensional `tensor` in the form in which the graph multiplies by it, without rounding.

    Returns:
        A `BlockMatrix` for block types; float32 [N, K] for F32 and F16.

    Raises:
        UnsupportedFormat: any other type.
    """
    check_supported(tensor)
    if tensor.type in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        return dequantise(tensor)
    blocks = tensor.raw.reshape(tensor.shape[0], tensor.shape[1] // BLOCK, -1)
    scales = _halves(blocks, 0)
    if tensor.type is GGMLQuantizationType.Q8_0:
        return BlockMatrix(8, blocks[..., 2:] ^ np.uint8(0x80), scales, None)
    if tensor.type is GGMLQuantizationType.Q4_0:
        return BlockMatrix(4, _neighbours(blocks[..., 2:]), scales, None)
    return BlockMatrix(4, _neighbours(blocks[..., 4:]), scales, _halves(blocks, 2) + 8 * scales)


def dequantise(tensor: GgufTensor, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
    """The `rows` of the tensor as float32, by the definition of its type; raises UnsupportedFormat."""
    check_supported(tensor)
    raw = tensor.raw[rows]
    if tensor.type is GGMLQuantizationType.F32:
        return raw.view("<f4").astype(np.float32)
    if tensor.type is GGMLQuantizationType.F16:
        return raw.view("<f2").astype(np.float32)
    blocks = raw.reshape(*raw.shape[:-1], tensor.shape[-1] // BLOCK, -1)
    values = np.empty((*blocks.shape[:-1], BLOCK), np.float32)
    if tensor.type is GGMLQuantizationType.Q8_0:
        values[...] = blocks[..., 2:].view(np.int8)
    else:
        nibbles = blocks[..., -BLOCK // 2 :]
        values[..., : BLOCK // 2], values[..., BLOCK // 2 :] = nibbles & 0xF, nibbles >> 4
    if tensor.type is GGMLQuantizationType.Q4_0:
        values -= 8
    values *= _halves(blocks, 0)[..., None]
    if tensor.type is GGMLQuantizationType.Q4_1:
        values += _halves(blocks, 2)[..., None]
    return values.reshape(*raw.shape[:-1], tensor.shape[-1])


def _halves(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of every block, as float32."""
    return np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")[..., 0].astype(np.float32)


def _codes(nibbles: Bytes) -> Bytes:
    """GGUF's order: the low halves are weights 0 to 15, the high halves 16 to 31."""
    return np.concatenate([nibbles & 0xF, nibbles >> 4], axis=-1)


def _neighbours(nibbles: Bytes) -> Bytes:
    """GGUF's nibble order to MatMulNBits': weight 2i in the low half of byte i, 2i + 1 in the high half."""
    codes = _codes(nibbles)
    return codes[..., 0::2] | codes[..., 1::2] << np.uint8(4)
