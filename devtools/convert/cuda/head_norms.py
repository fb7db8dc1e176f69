"""Norms of heads in the form that ONNX Runtime's CUDA provider knows.

On the CPU `BranchwiseRMSNorm` norms each head where it lies; CUDA has no such kernel. It has those of the three nodes
that do the same (reshape, norm, reshape), and the provider's optimiser folds them into `GroupQueryAttention`.
"""

from onnx import ModelProto, NodeProto, TensorProto, helper

_KIND = "BranchwiseRMSNorm"


def spell_out_head_norms(model: ModelProto) -> None:
    """Replace every `BranchwiseRMSNorm` in `model` by reshape, `SimplifiedLayerNormalization`, reshape."""
    graph = model.graph
    if not any(node.op_type == _KIND for node in graph.node):
        return
    nodes: list[NodeProto] = []
    shapes = {"head_norm.rows": [0, 0, -1]}
    for node in graph.node:
        if node.op_type != _KIND:
            nodes.append(node)
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        heads, (output,) = attributes["num_branches"], node.output
        shape = f"head_norm.heads_{heads}"
        shapes[shape] = [0, 0, heads, -1]
        apart, normed = f"{output}.apart", f"{output}.heads"
        nodes += [
            helper.make_node("Reshape", [node.input[0], shape], [apart], name=apart),
            helper.make_node(
                "SimplifiedLayerNormalization", [apart, node.input[1]], [normed], name=normed, axis=-1,
                epsilon=attributes["epsilon"], stash_type=1,
            ),
            helper.make_node("Reshape", [normed, "head_norm.rows"], [output], name=output),
        ]  # fmt: skip
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, [len(values)], values) for name, values in shapes.items()
    )
