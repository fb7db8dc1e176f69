"""A frozen weight matrix as it is stored, dequantised whenever it is used.

A layer's floats exist while it computes, so a model takes the memory of its file plus one matrix of floats. This is
QLoRA (https://arxiv.org/abs/2305.14314) on the very numbers that are served.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from devtools.convert.graph.block_matrix import BlockMatrix
from devtools.convert.graph.matrices import Quantised
from devtools.convert.source import WeightSource

_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}


class Codes(nn.Module):
    """The matrix [N, K] whose weights are `scale * (code - zero)`, or `scale * code + offset`.

    Codes of 4 bits lie two in a byte.
    """

    def __init__(self, matrix: BlockMatrix) -> None:
        super().__init__()
        self.shape = (matrix.rows, matrix.columns)
        self.bits, self.block = matrix.bits, matrix.block
        codes = matrix.codes
        if self.bits == 4:
            codes = (codes[:, 0::2] | (codes[:, 1::2] << 4)).astype(np.uint8)
        self.codes: Tensor
        self.scales: Tensor
        self.offset: Tensor | None
        self.register_buffer("codes", torch.from_numpy(np.array(codes)), persistent=False)
        self.register_buffer("scales", torch.from_numpy(np.array(matrix.scales)), persistent=False)
        offset = None if matrix.offset is None else torch.from_numpy(np.array(matrix.offset))
        self.register_buffer("offset", offset, persistent=False)

    def floats(self, rows: Tensor | None = None) -> Tensor:
        """The weights of `rows` [R], or all, as float32 [R, K]."""
        codes, scales, offset = self.codes, self.scales, self.offset
        if rows is not None:
            codes, scales = codes[rows], scales[rows]
            offset = None if offset is None else offset[rows]
        if self.bits == 4:
            codes = torch.stack([codes & 0xF, codes >> 4], dim=-1).flatten(-2)
        values = codes.float().view(*scales.shape, self.block)
        if offset is None:
            values -= float(1 << (self.bits - 1))
        values *= scales[..., None]
        if offset is not None:
            values += offset[..., None]
        return values.flatten(-2)


class Halves(nn.Module):
    """The matrix [N, K] in 16 bits a weight."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.shape = tuple(values.shape)
        self.values: Tensor
        self.register_buffer("values", values, persistent=False)

    def floats(self, rows: Tensor | None = None) -> Tensor:
        """The weights of `rows` [R], or all, as float32 [R, K]."""
        return (self.values if rows is None else self.values[rows]).float()


def stored_matrix(source: WeightSource, name: str) -> Codes | Halves | None:
    """The matrix `name` in fewer bits than float32; None where the source has float32 itself."""
    matrix = source.matrix(name)
    if isinstance(matrix, Quantised):
        return Codes(matrix.decoded())
    half = _HALVES.get(source.type_name(name))
    return None if half is None else Halves(torch.from_numpy(matrix).to(half))


class DequantisedProduct(torch.autograd.Function):
    """`x W^T` that keeps codes instead of W for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Codes | Halves) -> Tensor:
        """`x [..., K]` to [..., N]."""
        ctx.codes, ctx.dtype = codes, x.dtype
        return x @ codes.floats().to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of `x`; the matrix is frozen."""
        return (gradient @ ctx.codes.floats().to(gradient.dtype)).to(ctx.dtype), None
