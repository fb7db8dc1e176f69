"""The form that a quantised matrix of any source has until it is stored (`operators.layout`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 32
"""Weights per block of most types."""


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """A quantised weight matrix of N rows and K columns, in blocks of 16 or 32 weights along K.

    A weight is `scale * code + offset`; without offsets, it is `scale * (code - 2**(bits - 1))`.

    bits: 4 or 8
    codes: uint8 [N, K], below 2**bits
    scales: float32 [N, K/block]
    offset: float32 [N, K/block], or None
    """

    bits: int
    codes: Bytes
    scales: Floats
    offset: Floats | None

    @property
    def rows(self) -> int:
        """N, the output features."""
        return int(self.codes.shape[0])

    @property
    def columns(self) -> int:
        """K, the input features."""
        return int(self.codes.shape[1])

    @property
    def block(self) -> int:
        """Weights per block."""
        return self.columns // int(self.scales.shape[1])

    def dequantise(self, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
        """The weights of `rows` as float32 [rows, K]."""
        scales = self.scales[rows]
        values = self.codes[rows].reshape(*scales.shape, self.block).astype(np.float32)
        if self.offset is None:
            values -= np.float32(1 << (self.bits - 1))
        values *= scales[..., None]
        if self.offset is not None:
            values += self.offset[rows][..., None]
        return values.reshape(-1, self.columns)
