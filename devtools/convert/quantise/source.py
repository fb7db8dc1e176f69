"""A source of weights whose matrices LLMOS's own quantiser has rounded."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from devtools.convert.graph.block_matrix import BLOCK, BlockMatrix, Floats
from devtools.convert.graph.matrices import Matrix
from devtools.convert.quantise.quantiser import quantise_int4, quantise_int8
from devtools.convert.source import Rows, WeightSource
from devtools.quantization import Scheme

_ENDS = ("token_embd", "output")
"""Kept in 8 bits in any case: a token's row decides alone, and a logit's error is an error of the answer."""


class QuantisedSource:
    """The tensors of `original` with every matrix in `scheme` (a `WeightSource`).

    A matrix is quantised when it is first asked for, and kept in `scratch`: only one is in memory at a time, however
    large the model. Embedding and head are in 8 bits in both schemes. A matrix whose rows are not whole blocks of 32
    stays in float32.
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
        if name not in self._quantised:
            quantise = quantise_int4 if scheme == "int4" else quantise_int8
            self._keep(name, quantise(self._original.dequantise(name), self._importance.get(name)))
        return self._load(name, 4 if scheme == "int4" else 8)

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
        if len(shape) != 2 or shape[1] % BLOCK:
            return None
        return "int8" if name in _ENDS else self._scheme

    def _keep(self, name: str, matrix: BlockMatrix) -> None:
        for part in ("codes", "scales", "offset"):
            values = getattr(matrix, part)
            if values is not None:
                np.save(self._scratch / f"{name}.{part}.npy", values)
        self._quantised.add(name)

    def _load(self, name: str, bits: int) -> BlockMatrix:
        offset = self._scratch / f"{name}.offset.npy"
        return BlockMatrix(
            bits,
            np.load(self._scratch / f"{name}.codes.npy", mmap_mode="r"),
            np.load(self._scratch / f"{name}.scales.npy", mmap_mode="r"),
            np.load(offset, mmap_mode="r") if offset.exists() else None,
        )
