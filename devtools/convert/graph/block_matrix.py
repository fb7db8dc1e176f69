"""The form that a quantised matrix of any source has until it is stored (`operators.layout`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.layout import GROUP, block_bytes, pack

Floats = np.ndarray[Any, np.dtype[np.float32]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 32
"""Weights per block of most types."""
_PIECE = 1 << 20
"""Weights that are computed with at once: a few megabytes in every form."""


def in_pieces(rows: int, columns: int) -> Iterator[slice]:
    """The rows of a matrix in slices of whole groups (but for the end of the last) that are quickly computed with."""
    step = max(_PIECE // columns // GROUP, 1) * GROUP
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


@dataclass(frozen=True, slots=True)
class BlockForm:
    """How weights are made of codes (`operators.layout`).

    bits: Of a code: 4 or 8
    block: Columns that share a scale: 16 or 32
    offsets: Whether they share an offset, too
    """

    bits: int
    block: int
    offsets: bool

    @property
    def attributes(self) -> dict[str, int]:
        """Of the nodes that read such a matrix."""
        return {"bits": self.bits, "block": self.block, "offsets": int(self.offsets)}

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix as the operators read it."""
        groups = -(-rows // GROUP)
        return groups * (columns // self.block) * block_bytes(self.bits, self.block, offsets=self.offsets)


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

    @property
    def form(self) -> BlockForm:
        """Bits, block, offsets."""
        return BlockForm(self.bits, self.block, self.offset is not None)

    @property
    def attributes(self) -> dict[str, int]:
        """Of the nodes that read it: N, K and its form."""
        return {"N": self.rows, "K": self.columns, **self.form.attributes}

    @property
    def packed_bytes(self) -> int:
        """Bytes of all that `packed` gives."""
        return self.form.packed_bytes(self.rows, self.columns)

    def rows_of(self, rows: slice) -> "BlockMatrix":
        """Some of its rows."""
        offset = None if self.offset is None else self.offset[rows]
        return BlockMatrix(self.bits, self.codes[rows], self.scales[rows], offset)

    def decoded(self) -> "BlockMatrix":
        """Itself: codes, scales and offsets."""
        return self

    def packed(self) -> Iterator[Bytes]:
        """The matrix as the operators read it, in pieces."""
        for rows in in_pieces(self.rows, self.columns):
            piece = self.rows_of(rows)
            yield pack(piece.codes, piece.scales, piece.offset, bits=self.bits)

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
