"""Products with quantised matrices, and rows of one, as nodes (`operators`)."""

from typing import Any

from devtools.convert.decoder.architecture import Activation
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.graph.matrices import Quantised
from devtools.convert.graph.nodes import GraphNodes
from operators import DOMAIN

GATES = {None: 0, Activation.SILU: 1, Activation.GELU_TANH: 2}
"""The operator's `gate`."""


class BlockLinear:
    """Adds products with quantised matrices to `nodes`."""

    def __init__(self, nodes: GraphNodes) -> None:
        self._nodes = nodes
        self._stored: set[str] = set()

    def multiply(  # an input, a matrix, and what is added on the way
        self, x: str, matrix: Quantised, output: str, *, bias: Floats | None = None, gate: Activation | None = None,
        name: str = "",
    ) -> str:  # fmt: skip
        """`x [..., K]` times the matrix [N, K], plus `bias` [N]: `output [..., N]`.

        With a `gate`, `x` is `[..., 2 * K]` and what is multiplied is `gate(x[..., :K]) * x[..., K:]`. A matrix that
        has a `name` is stored once for all nodes that name it.
        """
        added = [] if bias is None else [self._nodes.weight(f"{output}.bias", bias)]
        return self._node("MatMulBlocks", [x, self._store(matrix, name or output), *added], matrix, output, gate)

    def gather(self, ids: str, matrix: Quantised, output: str, *, name: str) -> str:
        """The rows `ids [...]` of the matrix: `output [..., K]`."""
        return self._node("GatherBlocks", [ids, self._store(matrix, name)], matrix, output, None)

    def _node(self, kind: str, inputs: list[str], matrix: Quantised, output: str, gate: Activation | None) -> str:
        attributes: dict[str, Any] = {**matrix.attributes}
        return self._nodes.add(kind, inputs, output, domain=DOMAIN, gate=GATES[gate], **attributes)

    def _store(self, matrix: Quantised, name: str) -> str:
        """The matrix as the operators read it; returns its name."""
        stored = f"{name}.blocks"
        if stored not in self._stored:
            self._stored.add(stored)
            self._nodes.weight_in_pieces(stored, matrix.packed_bytes, matrix.packed())
        return stored
