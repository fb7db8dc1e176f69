"""Attention in ONNX Runtime's own operator, for a provider that has no kernel of LLMOS's."""

from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, helper

from devtools.convert.graph.nodes import MICROSOFT
from operators import DOMAIN

_TOTAL = "total_sequence_length"
"""The graph's input that `GroupQueryAttention` reads and `CachedAttention` does not need."""
_SLOTS = "slots"
"""The one that `CachedAttention` reads and `GroupQueryAttention` does not know."""


def spell_out_attention(model: ModelProto) -> None:
    """Replace each `CachedAttention` by the `GroupQueryAttention` that computes the same, sequence i in slot i."""
    nodes = [_spelt_out(node) for node in model.graph.node]
    inputs = [given for given in model.graph.input if given.name != _SLOTS]
    for kept in (*inputs, *model.graph.output):
        if kept.name.startswith(("past_", "present_")):  # of the type of all that it reads
            kept.type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.node[:]
    del model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.input.extend(inputs)


def _spelt_out(node: NodeProto) -> NodeProto:
    if node.domain != DOMAIN or node.op_type != "CachedAttention":
        return node
    *inputs, seqlens = node.input[:6]
    rotation = [name for name in node.input[6:8] if name]
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes: dict[str, Any] = {name: given[name] for name in ("num_heads", "kv_num_heads", "scale")}
    if rotation:
        attributes |= {"do_rotary": 1, "rotary_interleaved": given["rotary_interleaved"]}
    if given["local_window_size"] > 0:
        attributes["local_window_size"] = given["local_window_size"]
    return helper.make_node(
        "GroupQueryAttention", [*inputs, seqlens, _TOTAL, *rotation], list(node.output), name=node.name,
        domain=MICROSOFT, **attributes,
    )  # fmt: skip
