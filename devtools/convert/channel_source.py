"""A source of weights whose matrices are int8 per output channel, smoothed for text that was read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from devtools.convert.architecture import Architecture
from devtools.convert.block_matrix import Floats
from devtools.convert.channel_matrix import ChannelMatrix, nearest_channels
from devtools.convert.matrices import Matrix
from devtools.convert.reference import Reference
from devtools.convert.smoothing import smoothing, tie_heads
from devtools.convert.source import Rows, WeightSource

W8A8 = "W8A8"
_TABLE, _HEAD = "token_embd", "output"


class ChannelSource:
    """The tensors of `original` with every matrix but the embedding as a `ChannelMatrix` (a `WeightSource`).

    `fit` has to run first. The head is a matrix of its own, also where the original shares the embedding's. Codes
    are kept in `scratch`, so that one matrix is in memory at a time.
    """

    def __init__(self, original: WeightSource, scratch: Path) -> None:
        self._original = original
        self._scratch = scratch
        self._scales: dict[str, Floats] = {}
        self._fine: set[str] = set()
        self._vectors: dict[str, Floats] = {}

    def fit(self, arch: Architecture, ids: Sequence[int], on_progress: Callable[[float], None]) -> None:
        """Read `ids` with the original weights, and smooth and round each matrix for what it was multiplied by."""
        steps = 7 * arch.layers + 1
        _Fit(arch, self._original, self, lambda done: on_progress(min(1.0, done / steps))).logits(ids)

    def names(self) -> tuple[str, ...]:
        """Every tensor, by its canonical name."""
        return tuple(dict.fromkeys([*self._original.names(), _HEAD]))

    def has(self, name: str) -> bool:
        """Whether there is a tensor `name`."""
        return name == _HEAD or self._original.has(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Row-major: a matrix is [output features, input features]."""
        return self._original.shape(name if self._original.has(name) else _TABLE)

    def type_name(self, name: str) -> str:
        """`W8A8`, or the original's."""
        return W8A8 if name in self._scales else self._original.type_name(name)

    def matrix(self, name: str) -> Matrix:
        """The matrix, rounded; the embedding as it was."""
        if name not in self._scales:
            return self._original.matrix(name)
        return ChannelMatrix(np.load(self._file(name), mmap_mode="r"), self._scales[name], name in self._fine)

    def vector(self, name: str) -> Floats:
        """A norm's weight or a bias, with the smoothing that went into it."""
        vector = self._vectors.get(name)
        return self._original.vector(name) if vector is None else vector

    def dequantise(self, name: str, rows: Rows = slice(None)) -> Floats:
        """`rows` of the tensor as float32: what its rounded form stands for."""
        matrix = self.matrix(name)
        return matrix.dequantise(rows) if isinstance(matrix, ChannelMatrix) else self._original.dequantise(name, rows)

    def keep(self, name: str, matrix: ChannelMatrix) -> None:
        """Have `matrix` from now on."""
        np.save(self._file(name), matrix.codes)
        self._scales[name] = matrix.scales
        if matrix.fine:
            self._fine.add(name)

    def divide(self, name: str, factors: Floats) -> None:
        """Divide a norm's weight, or the output channels of a matrix and its bias, by `factors`."""
        if name in self._scales:
            self._scales[name] = self._scales[name] / factors
            name = f"{name}.bias"
        if self.has(name):
            self._vectors[name] = self.vector(name) / factors

    def _file(self, name: str) -> Path:
        return self._scratch / f"{name}.codes.npy"


class _Fit(Reference):
    """A forward pass with the original weights that rounds, matrix by matrix, what it comes by."""

    def __init__(
        self, arch: Architecture, original: WeightSource, result: ChannelSource, on_step: Callable[[int], None]
    ) -> None:
        super().__init__(arch, original)
        self._result = result
        self._on_step = on_step
        self._steps = 0

    def _linear(self, x: Floats, name: str) -> Floats:
        layer, _, part = name.rpartition(".")
        if part == "attn_q":
            self._round(x, [name, f"{layer}.attn_k", f"{layer}.attn_v"], behind=f"{layer}.attn_norm")
        elif part == "attn_output":
            self._round_mixed(x, name, value=f"{layer}.attn_v")
        elif part == "ffn_gate":
            self._round(x, [name, f"{layer}.ffn_up"], behind=f"{layer}.ffn_norm")
        elif part == "ffn_down":
            self._round(x, [name], behind=f"{layer}.ffn_up", fine=True)
        elif part in (_TABLE, _HEAD):
            self._round(x, [name], behind="output_norm")
        product = super()._linear(x, name)
        self._steps += 1
        self._on_step(self._steps)
        return product

    def _round(self, x: Floats, names: Sequence[str], *, behind: str, fine: bool = False) -> None:
        """Round the matrices `names`, which are all multiplied by `x`, the output of `behind`."""
        weights = [self.source.dequantise(name) for name in names]
        factors = smoothing(x, np.concatenate(weights), fine=fine)
        for name, matrix in zip(names, weights, strict=True):
            kept = _HEAD if name == _TABLE else name
            self._result.keep(kept, nearest_channels(matrix * factors, fine=fine))
        self._result.divide(behind, factors)

    def _round_mixed(self, x: Floats, name: str, *, value: str) -> None:
        """The matrix behind attention: a value channel is shared by the query heads of its group."""
        arch, weights = self.arch, self.source.dequantise(name)
        factors = smoothing(x, weights, tie_heads(arch.heads, arch.kv_heads))
        self._result.keep(name, nearest_channels(weights * factors))
        self._result.divide(value, factors.reshape(arch.kv_heads, -1, arch.head_dim)[:, 0].reshape(-1))
