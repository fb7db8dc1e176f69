"""The form that a quantised matrix of any source has until it is stored (`shared.operators.layout`).

A weight is `scale * (q - 2**(bits - 1))`, plus `offset` where the type adds a constant per block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 32
"""Weights per block of most types."""


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """A quantised weight matrix of N rows and K columns, in blocks of `block` weights along K.

    bits: 4 or 8
    packed: uint8 [N, K/block, block * bits / 8]; two neighbouring 4-bit weights share a byte, the even one lies low
    scales: float32 [N, K/block]
    offset: float32 [N, K/block], or None where it is zero
    block: 16 or 32
    """

    bits: int
    packed: Bytes
    scales: Floats
    offset: Floats | None
    block: int = BLOCK

    @property
    def rows(self) -> int:
        """N, the output features."""
        return int(self.scales.shape[0])

    @property
    def columns(self) -> int:
        """K, the input features."""
        return int(self.scales.shape[1]) * self.block

    def codes(self, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Bytes:
        """The codes of `rows`, a byte each: uint8 [rows, K]."""
        codes = self.packed[rows]
        if self.bits == 4:
            codes = np.stack([codes & 0xF, codes >> 4], axis=-1)
        return codes.reshape(-1, self.columns)

    def dequantise(self, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
        """The weights of `rows` as float32 [rows, K]."""
        values = self.codes(rows).reshape(-1, self.columns // self.block, self.block).astype(np.float32)
        values -= np.float32(1 << (self.bits - 1))
        values *= self.scales[rows][..., None]
        if self.offset is not None:
            values += self.offset[rows][..., None]
        return values.reshape(-1, self.columns)
