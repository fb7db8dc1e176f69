"""Linear layers: weight matrices as nodes that multiply by them.

A quantised matrix is multiplied exactly as its type defines it: `MatMulNBits` gives `x @ (scale * (q - 8))`, and the
rest, a constant per block of inputs, is the block's offset times the sum of its inputs:

    y = MatMulNBits(x, q, scale) + blockmean(x) @ (block * offset)^T

`blockmean` is an average pool over the last axis: one node, where reshape and reduce are two (a node costs about
10 us, which matters when one token is decoded), and matrices that read the same input share it. Matrices that read
the same input are joined into one (query, key and value; gate and up), where their forms allow it.
"""

from collections.abc import Sequence

import numpy as np

from devtools.convert.block_matrix import BlockMatrix, Floats
from devtools.convert.channel_linear import ChannelLinear
from devtools.convert.channel_matrix import ChannelMatrix
from devtools.convert.matrices import Matrix, join
from devtools.convert.nodes import MICROSOFT, GraphNodes
from devtools.convert.source import WeightSource

_INT8_ACTIVATIONS = 4
"""`accuracy_level`: products in int8 with one activation scale per block; other levels are 5 to 30 times slower."""


class Linear:
    """Adds linear layers to `nodes`, with the matrices and biases of `source`."""

    def __init__(self, nodes: GraphNodes, source: WeightSource) -> None:
        self._nodes = nodes
        self._source = source
        self._block_means: dict[tuple[str, int], str] = {}
        self._channels = ChannelLinear(nodes)

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

    def multiply(self, x: str, matrix: Matrix, output: str, *, bias: Floats | None = None) -> str:
        """`x [..., K]` times one matrix [N, K], plus `bias` [N]: `output [..., N]`."""
        if isinstance(matrix, ChannelMatrix):
            return self._channels.multiply(x, matrix, output, bias=bias)
        if not isinstance(matrix, BlockMatrix):
            return self._multiply_dense(x, matrix, output, bias)
        packed = self._nodes.packed(f"{output}.packed", matrix.packed)
        scales = self._nodes.packed(f"{output}.scales", matrix.scales)
        added = "" if bias is None else self._nodes.weight(f"{output}.bias", bias)
        return self.multiply_stored(x, packed, scales, matrix, output, bias=added)

    def multiply_stored(
        self, x: str, packed: str, scales: str, matrix: BlockMatrix, output: str, *, bias: str = ""
    ) -> str:
        """`multiply` by a matrix whose `packed` and `scales` are initializers already, as is a `bias`."""
        if matrix.offset is None:
            return self._multiply_blocks(x, packed, scales, matrix, output, bias)
        product = self._multiply_blocks(x, packed, scales, matrix, f"{output}.product", bias)
        offset = self._nodes.packed(f"{output}.offset", matrix.offset.T * np.float32(matrix.block))
        rest = self._nodes.add("MatMul", [self._block_mean(x, matrix.block), offset], f"{output}.rest")
        return self._nodes.add("Add", [product, rest], output)

    def _multiply_dense(self, x: str, matrix: Floats, output: str, bias: Floats | None) -> str:
        weight = self._nodes.packed(f"{output}.weight", matrix.T)
        if bias is None:
            return self._nodes.add("MatMul", [x, weight], output)
        product = self._nodes.add("MatMul", [x, weight], f"{output}.product")
        return self._nodes.add("Add", [product, self._nodes.weight(f"{output}.bias", bias)], output)

    def _multiply_blocks(  # noqa: PLR0917  # the node's inputs
        self, x: str, packed: str, scales: str, matrix: BlockMatrix, output: str, bias: str
    ) -> str:
        return self._nodes.add(
            "MatMulNBits", [x, packed, scales, *(("", "", bias) if bias else ())], output, domain=MICROSOFT,
            bits=matrix.bits, block_size=matrix.block, K=matrix.columns, N=matrix.rows,
            accuracy_level=_INT8_ACTIVATIONS,
        )  # fmt: skip

    def _block_mean(self, x: str, block: int) -> str:
        """The mean of each block of `x [..., K]`: `[..., K/block]`; made once per input."""
        if (x, block) not in self._block_means:
            self._block_means[x, block] = self._nodes.add(
                "AveragePool", [x], f"{x}.block_mean_{block}", kernel_shape=[block], strides=[block]
            )
        return self._block_means[x, block]

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
