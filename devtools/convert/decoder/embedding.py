"""Token ids to vectors, and vectors to logits: the two ends of a decoder, which may share one matrix."""

from devtools.convert.decoder.linear import Linear
from devtools.convert.graph.matrices import Quantised
from devtools.convert.graph.nodes import GraphNodes
from devtools.convert.source import WeightSource

_TABLE = "token_embd"


def add_embedding(nodes: GraphNodes, source: WeightSource, linear: Linear, ids: str, *, scale: float = 1.0) -> str:
    """Token `ids [B, S]` to float32 [B, S, hidden_size], times `scale`."""
    matrix = source.matrix(_TABLE)
    output = "embedded" if scale == 1 else "embedded.unscaled"
    if isinstance(matrix, Quantised):
        linear.gather(ids, matrix, output, name=_TABLE)
    else:
        nodes.add("Gather", [nodes.weight(f"{_TABLE}.weight", matrix), ids], output, axis=0)
    return output if scale == 1 else nodes.add("Mul", [output, nodes.scalar("embedding_scale", scale)], "embedded")


def add_head(source: WeightSource, linear: Linear, rows: str, output: str) -> str:
    """Hidden `rows [N, hidden_size]` to logits [N, vocab_size], by the embedding's matrix without `output`."""
    if source.has("output"):
        return linear.apply(rows, ["output"], output)
    return linear.multiply(rows, source.matrix(_TABLE), output, name=_TABLE)
