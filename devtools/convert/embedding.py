"""Token ids to vectors, and vectors to logits: the two ends of a decoder, which may share one matrix."""

from devtools.convert.block_matrix import BlockMatrix
from devtools.convert.linear import Linear
from devtools.convert.nodes import MICROSOFT, GraphNodes
from devtools.convert.source import WeightSource

_TABLE = "token_embd"


def add_embedding(nodes: GraphNodes, source: WeightSource, ids: str, *, scale: float = 1.0) -> str:
    """Token `ids [B, S]` to float32 [B, S, hidden_size], times `scale`."""
    matrix = source.matrix(_TABLE)
    output = "embedded" if scale == 1 else "embedded.unscaled"
    if isinstance(matrix, BlockMatrix) and matrix.offset is None:
        table = nodes.weight(f"{_TABLE}.packed", matrix.packed.reshape(matrix.rows, -1))
        scales = nodes.weight(f"{_TABLE}.scales", matrix.scales)
        nodes.add(
            "GatherBlockQuantized", [table, ids, scales], output, domain=MICROSOFT, bits=matrix.bits,
            block_size=matrix.block, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
    else:
        table = nodes.weight(f"{_TABLE}.weight", source.dequantise(_TABLE))
        nodes.add("Gather", [table, ids], output, axis=0)
    return output if scale == 1 else nodes.add("Mul", [output, nodes.scalar("embedding_scale", scale)], "embedded")


def add_head(nodes: GraphNodes, source: WeightSource, linear: Linear, rows: str, output: str) -> str:
    """Hidden `rows [N, 1, hidden_size]` to logits [N, 1, vocab_size], by the embedding's matrix without `output`."""
    if source.has("output"):
        return linear.apply(rows, ["output"], output)
    matrix = source.matrix(_TABLE)
    if isinstance(matrix, BlockMatrix) and matrix.offset is None:
        packed = nodes.packed_view("head.packed", f"{_TABLE}.packed", matrix.packed)
        scales = nodes.packed_view("head.scales", f"{_TABLE}.scales", matrix.scales)
        return linear.multiply_stored(rows, packed, scales, matrix, output)
    return linear.apply(rows, [_TABLE], output)
