"""Keys and values of some rows, all with the same number of places, so that a run reads the first rows in place."""

import numpy as np
from numpy.typing import NDArray

from shared.contracts.manifest import Seq2SeqSpec

Tensor = NDArray[np.float32]

_STEP = 64
"""Places are added in multiples of this: each growth copies what is there."""


class RowCache:
    """float32 [rows, heads, places, head_dim] for keys and values of each layer.

    Memory that no row has written to costs nothing.

    Args:
        spec: The shapes.
        rows: How many there are.
        places: At most.
    """

    def __init__(self, spec: Seq2SeqSpec, *, rows: int, places: int) -> None:
        self._limit = places
        self._rows, self._heads, self._head_dim = rows, spec.heads, spec.head_dim
        self.tensors = [self._empty(min(_STEP, places)) for _ in range(2 * spec.layers)]
        """Key and value of the first layer, of the second, …"""

    @property
    def places(self) -> int:
        """Of each row now."""
        return int(self.tensors[0].shape[2])

    def grow(self, places: int) -> None:
        """Have at least so many places, of which the earlier ones keep their content."""
        if places <= self.places:
            return
        if places > self._limit:
            raise ValueError(f"{places} places are asked for; a row has at most {self._limit}")
        size = min(self._limit, -(-places // _STEP) * _STEP)
        for index, tensor in enumerate(self.tensors):
            grown = self._empty(size)
            grown[:, :, : tensor.shape[2]] = tensor
            self.tensors[index] = grown

    def shrink(self) -> None:
        """Give the memory of all rows back; their content is lost."""
        places = min(_STEP, self._limit)
        self.tensors = [self._empty(places) for _ in self.tensors]

    def read(self, first: int, rows: int) -> list[Tensor]:
        """Views of some rows, each contiguous."""
        return [tensor[first : first + rows] for tensor in self.tensors]

    def move(self, source: int, destination: int, places: int) -> None:
        """Copy the first places from row to row."""
        for tensor in self.tensors:
            tensor[destination, :, :places] = tensor[source, :, :places]

    def _empty(self, places: int) -> Tensor:
        return np.zeros((self._rows, self._heads, places, self._head_dim), dtype=np.float32)
