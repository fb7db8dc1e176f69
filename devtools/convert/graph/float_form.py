"""A graph with quantised matrices multiplied by inputs in float32, where as served they are rounded to int8."""

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from devtools.convert.graph.runtime_form import gate_nodes
from operators import DOMAIN


def with_float_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with quantised matrices multiplied in float, those of `runtime_form` too."""
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in exact.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
        if node.op_type == "MatMulBlocks" and node.domain == DOMAIN:
            nodes += _blocks_in_float(node, exact.graph)
        else:
            nodes.append(node)
    del exact.graph.node[:]
    exact.graph.node.extend(nodes)
    return exact


def _blocks_in_float(node: NodeProto, graph: onnx.GraphProto) -> list[NodeProto]:
    """A product with a matrix in blocks: every row of the matrix is gathered, which makes floats of it."""
    x, matrix, *bias = node.input
    name, make = node.output[0], helper.make_node
    attributes: dict[str, Any] = {attribute.name: attribute.i for attribute in node.attribute}
    all_rows = f"{name}.all_rows"
    graph.initializer.append(numpy_helper.from_array(np.arange(attributes["N"], dtype=np.int64), all_rows))
    x, nodes = gate_nodes(x, attributes["gate"], name)
    nodes += [
        make("GatherBlocks", [all_rows, matrix], [f"{name}.weights"], domain=DOMAIN, **(attributes | {"gate": 0})),
        make("Transpose", [f"{name}.weights"], [f"{name}.transposed"], perm=[1, 0]),
        make("MatMul", [x, f"{name}.transposed"], [f"{name}.product" if bias else name]),
    ]
    if bias:
        nodes.append(make("Add", [f"{name}.product", *bias], [name]))
    return nodes
