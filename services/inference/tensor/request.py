"""One request to a graph with named tensors, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.tensors import Array

Signature = tuple[object, ...]
"""Requests of the same signature can be computed together: the shape of one row of each input, and the outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorRequest:
    """The inputs of a request, checked."""

    id: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    """That are wanted."""
    rows: int | None = None
    """Of the first dimension, where rows are independent; None: it is computed alone."""
    tenant: str = ""

    @property
    def signature(self) -> Signature | None:
        """None: it is computed alone."""
        if self.rows is None:
            return None
        return (self.outputs, *((name, array.shape[1:]) for name, array in self.inputs.items()))

    @property
    def work(self) -> int:
        """Rows, at least 1."""
        return max(1, self.rows or 1)

    @property
    def size(self) -> int:
        """Bytes of its inputs; texts count with what Python keeps of each."""
        return sum(
            array.nbytes if array.dtype != object else sum(_TEXT_BYTES + len(text) for text in array.ravel())
            for array in self.inputs.values()
        )


_TEXT_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """The result of a request."""

    outputs: Mapping[str, Array]
    queue_s: float
    """Seconds from admission to its batch."""
    compute_s: float
    """Seconds that its batch took."""
