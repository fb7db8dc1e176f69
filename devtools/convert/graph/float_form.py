"""A graph that rounds nothing: inputs of quantised matrices, keys and values stay float32.

Some rows of a matrix are floats at a time. ONNX Runtime must not optimise such a graph: it would make constants of
all.
"""

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from devtools.convert.graph.block_matrix import in_pieces
from devtools.convert.graph.nodes import MICROSOFT
from devtools.convert.graph.runtime_form import gate_nodes
from operators import DOMAIN


def with_float_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with quantised matrices multiplied in float, those of `runtime_form` too, and caches of floats."""
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    for kept in (*exact.graph.input, *exact.graph.output):
        if kept.name.startswith(("past_", "present_")):
            kept.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    nodes: list[NodeProto] = []
    for node in exact.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
        if node.op_type == "MatMulBlocks" and node.domain == DOMAIN:
            nodes += _blocks_in_float(node, exact.graph)
        elif node.op_type == "MatMulExperts" and node.domain == DOMAIN:
            node.attribute.append(helper.make_attribute("float_inputs", 1))
            nodes.append(node)
        else:
            nodes.append(node)
    del exact.graph.node[:]
    exact.graph.node.extend(nodes)
    return exact


def _blocks_in_float(node: NodeProto, graph: onnx.GraphProto) -> list[NodeProto]:
    """A product with a matrix in blocks: its rows are gathered, which makes floats of them."""
    x, matrix, *bias = node.input
    name, make = node.output[0], helper.make_node
    attributes: dict[str, Any] = {attribute.name: attribute.i for attribute in node.attribute}
    x, nodes = gate_nodes(x, attributes["gate"], name)
    products = []
    for number, rows in enumerate(in_pieces(attributes["N"], attributes["K"])):
        ids, weights, product = (f"{name}.{part}.{number}" for part in ("rows", "weights", "product"))
        graph.initializer.append(numpy_helper.from_array(np.arange(rows.start, rows.stop, dtype=np.int64), ids))
        nodes += [
            make("GatherBlocks", [ids, matrix], [weights], domain=DOMAIN, **(attributes | {"gate": 0})),
            make("FusedMatMul", [x, weights], [product], domain=MICROSOFT, transB=1),
        ]
        products.append(product)
    nodes.append(make("Concat", products, [f"{name}.product" if bias else name], axis=-1))
    if bias:
        nodes.append(make("Add", [f"{name}.product", *bias], [name]))
    return nodes
