"""The nodes and initializers of a graph under construction."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from devtools.convert.graph.weight_file import WeightFile

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


class GraphNodes:
    """Nodes in the order in which they run, each named after its first output.

    Attributes:
        nodes: What was added so far.
        weights: The file of the initializers.
        packed_bytes: Bytes of matrices that ONNX Runtime rearranges into memory of its own.
        mapped_bytes: Bytes of initializers that it reads where they lie in the file.
    """

    def __init__(self, weights: WeightFile) -> None:
        self.nodes: list[NodeProto] = []
        self.weights = weights
        self.packed_bytes = 0
        self.mapped_bytes = 0

    def add(
        self, kind: str, inputs: Sequence[str], output: str, *, more_outputs: tuple[str, ...] = (), domain: str = "",
        **attributes: Any,
    ) -> str:  # fmt: skip
        """A node of `kind`; an input "" is left out. Returns `output`, the name of its first output."""
        outputs = [output, *more_outputs]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=output, domain=domain, **attributes))
        return output

    def constant(self, name: str, values: Sequence[int]) -> str:
        """A small int64 vector inside the graph; returns its name."""
        self.weights.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def scalar(self, name: str, value: float) -> str:
        """A float32 number inside the graph; returns its name."""
        self.weights.initializers.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def weight(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """An initializer that is read where it lies in the file; returns its name."""
        self.mapped_bytes += values.nbytes
        return self.weights.add(name, values)

    def weight_in_pieces(self, name: str, size: int, pieces: Iterable[np.ndarray[Any, Any]]) -> str:
        """Such an initializer of `size` bytes (uint8), of which the pieces are made one after the other."""
        self.mapped_bytes += size
        return self.weights.add_pieces(name, size, pieces)

    def packed(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """An initializer that ONNX Runtime rearranges for a multiplication; returns its name."""
        self.packed_bytes += values.nbytes
        return self.weights.add(name, values)
