"""A source of weights whose matrices LLMOS's own quantiser has rounded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from devtools.convert.graph.block_matrix import BLOCK, BlockMatrix, Floats, in_pieces
from devtools.convert.graph.matrices import Matrix
from devtools.convert.quantise.quantiser import quantise_int4, quantise_int8
from devtools.convert.source import Rows, WeightSource
from devtools.quantization import Scheme

_ENDS = ("token_embd", "output")
"""Kept in 8 bits in any case: a token's row decides alone, and a logit's error is an error of the answer."""


class QuantisedSource:
    """The tensors of `original` with every matrix in `scheme` (a `WeightSource`).

    A matrix is quantised when it is first asked for, some rows after others, and kept in `scratch`: memory does not
    grow with the model. Embedding and head are in 8 bits in both schemes. A matrix whose rows are not whole blocks of
    32 stays in float32, and so do routers of experts.
    """

    def __init__(
        self, original: WeightSource, scheme: Scheme, scratch: Path, importance: Mapping[str, Floats] | None = None
    ) -> None:
        self._original = original
        self._scheme: Scheme = scheme
        self._scratch = scratch
        self._importance = importance or {}
        self._quantised: set[str] = set()

    def names(self) -> tuple[str, ...]:
        """Every tensor, by its canonical name."""
        return self._original.names()

    def has(self, name: str) -> bool:
        """Whether there is a tensor `name`."""
        return self._original.has(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major: a matrix is [output features, input features]."""
        return self._original.shape(name)

    def type_name(self, name: str) -> str:
        """`int4`, `int8`, or the original's."""
        return self._scheme_of(name) or self._original.type_name(name)

    def matrix(self, name: str) -> Matrix:
        """The matrix, quantised."""
        scheme = self._scheme_of(name)
        if scheme is None:
            return self._original.matrix(name)
        bits, offsets = (4, True) if scheme == "int4" else (8, False)
        if name not in self._quantised:
            self._quantise(name, self._open(name, bits, offsets=offsets, mode="w+"))
            self._quantised.add(name)
        return self._open(name, bits, offsets=offsets, mode="r")

    def vector(self, name: str) -> Floats:
        """The tensor as float32, not rounded."""
        return self._original.vector(name)

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor as float32: what its rounded form stands for."""
        if self._scheme_of(name) is None:
            return self._original.dequantise(name, rows)
        matrix = self.matrix(name)
        assert isinstance(matrix, BlockMatrix)
        return matrix.dequantise(rows)

    def _scheme_of(self, name: str) -> Scheme | None:
        shape = self._original.shape(name)
        if len(shape) != 2 or shape[1] % BLOCK or "ffn_gate_inp" in name:  # a router stays as it is
            return None
        return "int8" if name in _ENDS else self._scheme

    def _quantise(self, name: str, matrix: BlockMatrix) -> None:
        quantise = quantise_int4 if matrix.bits == 4 else quantise_int8
        for rows in in_pieces(matrix.rows, matrix.columns):
            found = quantise(self._original.dequantise(name, rows), self._importance.get(name))
            matrix.codes[rows], matrix.scales[rows] = found.codes, found.scales
            if matrix.offset is not None:
                matrix.offset[rows] = found.offset

    def _open(self, name: str, bits: int, *, offsets: bool, mode: Literal["r", "w+"]) -> BlockMatrix:
        rows, columns = self._original.shape(name)

        def part(kind: str, dtype: type, width: int) -> np.ndarray[Any, Any]:
            return np.memmap(self._scratch / f"{name}.{kind}", dtype, mode, shape=(rows, width))

        blocks = columns // BLOCK
        offset = part("offset", np.float32, blocks) if offsets else None
        return BlockMatrix(bits, part("codes", np.uint8, columns), part("scales", np.float32, blocks), offset)
