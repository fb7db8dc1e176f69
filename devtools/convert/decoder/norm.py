"""RMS norms, alone and fused with the addition to the residual stream."""

from devtools.convert.graph.nodes import MICROSOFT, GraphNodes
from devtools.convert.source import WeightSource


class Norms:
    """Adds RMS norms to `nodes`, with the weights of `source`."""

    def __init__(self, nodes: GraphNodes, source: WeightSource, *, epsilon: float) -> None:
        self._nodes = nodes
        self._source = source
        self._epsilon = epsilon

    def apply(self, x: str, weight: str, output: str) -> str:
        """`x [..., H]` over its root mean square, times `weight`."""
        return self._nodes.add(
            "SimplifiedLayerNormalization", [x, self._weight(weight)], output, axis=-1, epsilon=self._epsilon,
            stash_type=1,
        )  # fmt: skip

    def add_and_apply(self, update: str, residual: str, weight: str, output: str) -> tuple[str, str]:
        """The new residual stream `update + residual`, and its normed form."""
        normed = self._nodes.add(
            "SkipSimplifiedLayerNormalization", [update, residual, self._weight(weight)], f"{output}.normed",
            more_outputs=("", "", f"{output}.residual"), domain=MICROSOFT, epsilon=self._epsilon,
        )  # fmt: skip
        return f"{output}.residual", normed

    def apply_per_head(self, x: str, weight: str, output: str, *, heads: int) -> str:
        """Each of the `heads` heads of `x [..., heads * head_dim]` normed by itself, times `weight [head_dim]`."""
        if heads == 1:
            return self.apply(x, weight, output)
        return self._nodes.add(
            "BranchwiseRMSNorm", [x, self._weight(weight)], output, domain=MICROSOFT, num_branches=heads,
            epsilon=self._epsilon,
        )  # fmt: skip

    def _weight(self, name: str) -> str:
        return self._nodes.weight(f"{name}.weight", self._source.vector(name))
