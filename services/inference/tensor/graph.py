"""The interface of a model to what computes batches."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from shared.tensors import Array


class TensorGraph(Protocol):
    """A graph with named tensors. All methods are called from one thread."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The outputs of these names; raises `InvalidInput` where the graph does not take the inputs."""
        ...

    def close(self) -> None:
        """Free the memory."""
        ...
