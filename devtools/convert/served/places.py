"""Where each tensor of a decoder lies in its graph.

The builder joins matrices that read one input (query, key and value; gate and up) where their forms allow it. So a
matrix is a range of rows of one node's weight, and a node's name says which.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, helper

from operators import DOMAIN
from shared.errors import CorruptFile

_LAYER = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "attn_out": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
"""The output of a product in a layer: the matrices that it multiplies by."""


@dataclass(frozen=True, slots=True)
class Place:
    """A matrix as rows of a weight of the graph."""

    weight: str
    """The initializer."""
    form: Mapping[str, int] | None
    """The node's attributes, which say how the matrix is stored; None: floats."""
    start: int
    stop: int
    """Its rows, the output features, among those of the weight."""
    bias: str | None = None
    """The initializer of the biases of all rows of the weight."""
    transposed: bool = False
    """Whether the initializer is [input features, output features]."""


class GraphPlaces:
    """Looks matrices up in a graph.

    Args:
        model: Without its external data.
        sizes: Output features of each matrix of a layer, by its name.
    """

    def __init__(self, model: ModelProto, sizes: Mapping[str, int]) -> None:
        self._nodes = {node.output[0]: node for node in model.graph.node}
        self._shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        self._sizes = sizes

    def layer(self, layer: int) -> Iterator[tuple[str, Place]]:
        """The matrices of a layer by their names, such as `blk.3.attn_q`.

        Raises:
            CorruptFile: The graph is not one that LLMOS builds.
        """
        for output, names in _LAYER.items():
            parts = list(self._parts(f"blk.{layer}.{output}"))
            for name in names:
                place, rest = _first(parts, self._sizes[name], f"blk.{layer}.{name}")
                parts = rest
                yield f"blk.{layer}.{name}", place

    def embedding(self) -> Place:
        """The embedding's matrix."""
        node = self._nodes.get("embedded.unscaled") or self._node("embedded")
        if node.op_type == "GatherBlocks":
            return self._blocks(node, node.input[1], None)
        return self._floats(node.input[0], None, transposed=False)

    def head(self) -> Place:
        """The matrix of the logits; the embedding's own where they share it."""
        (place,) = self._parts("output_logits")
        return place

    def _parts(self, output: str) -> Iterator[Place]:
        """The products whose outputs, one after the other, are `output`."""
        node = self._node(output)
        if node.op_type == "Concat":
            for part in node.input:
                yield from self._parts(part)
        elif node.op_type == "Add":
            (place,) = self._parts(node.input[0])
            yield Place(place.weight, None, place.start, place.stop, node.input[1], place.transposed)
        elif node.op_type == "MatMul":
            yield self._floats(node.input[1], None, transposed=True)
        elif node.op_type == "MatMulBlocks":
            yield self._blocks(node, node.input[1], node.input[2] if len(node.input) > 2 else None)
        else:
            raise CorruptFile(f"the graph's node {output!r} is a {node.op_type}, not a product", param="source")

    def _blocks(self, node: NodeProto, weight: str, bias: str | None) -> Place:
        if node.domain != DOMAIN:
            raise CorruptFile(f"the graph's node {node.name!r} is not of LLMOS's operators", param="source")
        form = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        return Place(weight, form, 0, form["N"], bias)

    def _floats(self, weight: str, bias: str | None, *, transposed: bool) -> Place:
        shape = self._shapes.get(weight, (0, 0))
        return Place(weight, None, 0, shape[1] if transposed else shape[0], bias, transposed)

    def _node(self, output: str) -> NodeProto:
        try:
            return self._nodes[output]
        except KeyError:
            raise CorruptFile(
                f"the graph has no node {output!r}: another version of LLMOS built it; import the model again",
                param="source",
            ) from None


def _first(parts: list[Place], rows: int, name: str) -> tuple[Place, list[Place]]:
    """The first `rows` rows of the parts, and what is left."""
    if not parts or parts[0].stop - parts[0].start < rows:
        raise CorruptFile(f"the graph has too few rows for {name!r}", param="source")
    head, *rest = parts
    middle = head.start + rows
    taken = Place(head.weight, head.form, head.start, middle, head.bias, head.transposed)
    left = (
        [Place(head.weight, head.form, middle, head.stop, head.bias, head.transposed)] if middle < head.stop else []
    )
    return taken, [*left, *rest]
