"""Token ids to vectors, and vectors to logits: the two ends of a decoder, which may share one matrix."""

from devtools.convert.block_matrix import BlockMatrix
from devtools.convert.channel_matrix import ChannelMatrix
from devtools.convert.linear import Linear
from devtools.convert.nodes import MICROSOFT, GraphNodes
from devtools.convert.source import WeightSource

_TABLE = "token_embd"


def add_embedding(nodes: GraphNodes, source: WeightSource, ids: str, *, scale: float = 1.0) -> str:
    """Token `ids [B, S]` to float32 [B, S, hidden_size], times `scale`."""
    matrix = source.matrix(_TABLE)
    assert not isinstance(matrix, ChannelMatrix), "rows of a table are gathered, not multiplied"
    output = "embedded" if scale == 1 else "embedded.unscaled"
    if isinstance(matrix, BlockMatrix):
        _gather_blocks(nodes, matrix, ids, output)
    else:
        nodes.add("Gather", [nodes.weight(f"{_TABLE}.weight", matrix), ids], output, axis=0)
    return output if scale == 1 else nodes.add("Mul", [output, nodes.scalar("embedding_scale", scale)], "embedded")


def _gather_blocks(nodes: GraphNodes, matrix: BlockMatrix, ids: str, output: str) -> None:
    """The rows `ids` of a quantised table. Offsets are gathered and added, as no integer zero point holds them."""
    table = nodes.weight(f"{_TABLE}.packed", matrix.packed.reshape(matrix.rows, -1))
    scales = nodes.weight(f"{_TABLE}.scales", matrix.scales)
    codes = output if matrix.offset is None else f"{output}.codes"
    nodes.add(
        "GatherBlockQuantized", [table, ids, scales], codes, domain=MICROSOFT, bits=matrix.bits,
        block_size=matrix.block, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    if matrix.offset is None:
        return
    offsets = nodes.weight(f"{_TABLE}.offset", matrix.offset[..., None])
    gathered = nodes.add("Gather", [offsets, ids], f"{output}.offsets", axis=0)
    shape = nodes.constant("embedded_blocks", [0, 0, -1, matrix.block])
    blocks = nodes.add("Reshape", [codes, shape], f"{output}.blocks")
    moved = nodes.add("Add", [blocks, gathered], f"{output}.moved")
    nodes.add("Reshape", [moved, nodes.constant("embedded_rows", [0, 0, -1])], output)


def add_head(nodes: GraphNodes, source: WeightSource, linear: Linear, rows: str, output: str) -> str:
    """Hidden `rows [N, 1, hidden_size]` to logits [N, 1, vocab_size], by the embedding's matrix without `output`."""
    if source.has("output"):
        return linear.apply(rows, ["output"], output)
    matrix = source.matrix(_TABLE)
    if not isinstance(matrix, BlockMatrix):
        return linear.multiply(rows, matrix, output)
    packed = nodes.packed_view("head.packed", f"{_TABLE}.packed", matrix.packed)
    scales = nodes.packed_view("head.scales", f"{_TABLE}.scales", matrix.scales)
    return linear.multiply_stored(rows, packed, scales, matrix, output)
