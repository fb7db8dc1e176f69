"""Linear layers: weight matrices as nodes that multiply by them.

A quantised matrix is multiplied exactly as its type defines it. Matrices that read the same input are joined into one
(query, key and value; gate and up), where their forms allow it.
"""

from collections.abc import Sequence

import numpy as np

from devtools.convert.decoder.architecture import Activation
from devtools.convert.decoder.block_linear import BlockLinear
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.matrices import Matrix, Quantised, join
from devtools.convert.graph.nodes import MICROSOFT, GraphNodes
from devtools.convert.source import WeightSource


class Linear:
    """Adds linear layers to `nodes`, with the matrices and biases of `source`."""

    def __init__(self, nodes: GraphNodes, source: WeightSource) -> None:
        self._nodes = nodes
        self._source = source
        self._blocks = BlockLinear(nodes)

    def apply(self, x: str, names: Sequence[str], output: str) -> str:
        """`x [..., K]` times the matrices `names` plus their biases, if they have any.

        Returns:
            `output [..., N]`, the matrices' output features one after the other.
        """
        joined = join([self._source.matrix(name) for name in names])
        if len(joined) == 1:
            return self.multiply(x, joined[0][1], output, bias=self._bias(names))
        parts, start = [], 0
        for i, (count, matrix) in enumerate(joined):
            bias = self._bias(names[start : start + count])
            parts.append(self.multiply(x, matrix, f"{output}.{i}", bias=bias))
            start += count
        return self._nodes.add("Concat", parts, output, axis=-1)

    def apply_gated(self, gate_up: str, activation: Activation, name: str, output: str) -> str:
        """`activation(gate) * up`, the halves of `gate_up [..., 2 * K]`, times the matrix `name` plus its bias."""
        matrix = self._source.matrix(name)
        if isinstance(matrix, Quantised):
            return self._blocks.multiply(gate_up, matrix, output, bias=self._bias([name]), gate=activation)
        gate, up = f"{output}.gate", f"{output}.up"
        self._nodes.add("Split", [gate_up], gate, more_outputs=(up,), axis=-1, num_outputs=2)
        if activation is Activation.SILU:
            active = self._nodes.add("QuickGelu", [gate], f"{gate}.silu", domain=MICROSOFT, alpha=1.0)
        else:
            active = self._nodes.add("FastGelu", [gate], f"{gate}.gelu", domain=MICROSOFT)
        gated = self._nodes.add("Mul", [active, up], f"{output}.gated")
        return self.multiply(gated, matrix, output, bias=self._bias([name]))

    def multiply(self, x: str, matrix: Matrix, output: str, *, bias: Floats | None = None, name: str = "") -> str:
        """`x [..., K]` times one matrix [N, K], plus `bias` [N]: `output [..., N]`.

        Args:
            x: The input.
            matrix: The matrix.
            output: What the result is called.
            bias: Added to it.
            name: What the matrix is called, where it serves more than one node.
        """
        if isinstance(matrix, Quantised):
            return self._blocks.multiply(x, matrix, output, bias=bias, name=name)
        return self._multiply_dense(x, matrix, output, bias)

    def gather(self, ids: str, matrix: Quantised, output: str, *, name: str) -> str:
        """The rows `ids` of a quantised matrix, which may serve `multiply` under the same `name` too."""
        return self._blocks.gather(ids, matrix, output, name=name)

    def _multiply_dense(self, x: str, matrix: Floats, output: str, bias: Floats | None) -> str:
        weight = self._nodes.packed(f"{output}.weight", matrix.T)
        if bias is None:
            return self._nodes.add("MatMul", [x, weight], output)
        product = self._nodes.add("MatMul", [x, weight], f"{output}.product")
        return self._nodes.add("Add", [product, self._nodes.weight(f"{output}.bias", bias)], output)

    def _bias(self, names: Sequence[str]) -> Floats | None:
        """The biases of the matrices `names`, one after the other, zeros where one has none; None if none has any."""
        if not any(self._source.has(f"{name}.bias") for name in names):
            return None
        parts = [
            self._source.vector(f"{name}.bias")
            if self._source.has(f"{name}.bias")
            else np.zeros(self._source.shape(name)[0], np.float32)
            for name in names
        ]
        return np.concatenate(parts)
