"""A graph in ONNX Runtime's own operators, for a provider that has no kernels of LLMOS's (`operators`).

    GatherBlocks    GatherBlockQuantized(q, ids, scale) + Gather(offset, ids), block by block
    MatMulBlocks    MatMulNBits(x, q, scale) + blockmean(x) @ (block * offset)^T, where x may be gated first

Without zero points both hold `w = scale * (q - 2**(bits - 1))`; the constant that a type adds per block is kept
apart, as `offset`. (Zero points would hold the same, but integer ones round.) `blockmean` is an average pool over the
last axis: one node, where reshape and reduce are two, and products with the same input share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from devtools.convert.graph.block_matrix import BlockForm
from devtools.convert.graph.matrices import stored_form, stored_matrix
from devtools.convert.graph.nodes import MICROSOFT
from devtools.convert.graph.weight_file import WeightFile, read_initializer
from operators import DOMAIN

_ACTIVATIONS: dict[int, tuple[str, dict[str, Any]]] = {1: ("QuickGelu", {"alpha": 1.0}), 2: ("FastGelu", {})}
"""By the operators' `gate`."""
_INT8_ACTIVATIONS = 4
"""`accuracy_level`: what a CPU would round inputs to. CUDA's kernels multiply in float whatever it says."""


@dataclass(slots=True)
class BlockWeights:
    """A matrix that nodes of both kinds may read, and what they read of it.

    Attributes:
        stored: As `MatMulBlocks` and `GatherBlocks` read it.
        attributes: Of those nodes: N, K and how the matrix is stored.
        form: Of its codes, once decoded.
        kinds: Of the nodes that read it.
    """

    stored: TensorProto
    attributes: Mapping[str, int]
    form: BlockForm
    kinds: set[str] = field(default_factory=set)

    def part(self, name: str) -> str:
        """The initializer for one of `packed`, `table`, `scales`, `gathered_offset` and `offset`."""
        return f"{self.stored.name.removesuffix('.blocks')}.{name}"

    def write(self, folder: Path, weights: WeightFile) -> None:
        """Append the parts that are read to `weights`, codes and scales once; the matrix is read from `folder`."""
        matrix = stored_matrix(read_initializer(self.stored, folder), self.attributes).decoded()
        codes, scales, offsets = matrix.codes, matrix.scales, matrix.offset
        if self.form.bits == 4:
            codes = codes[:, ::2] | np.left_shift(codes[:, 1::2], 4, dtype=np.uint8)
        packed = codes.reshape(*scales.shape, -1)
        weights.add(self.part("packed"), packed)
        weights.add(self.part("scales"), scales)
        if "GatherBlocks" in self.kinds:
            weights.view(self.part("table"), self.part("packed"), (matrix.rows, packed[0].size))
        if offsets is None:
            return
        offsets = offsets + scales * np.float32(1 << (self.form.bits - 1))
        if "GatherBlocks" in self.kinds:
            weights.add(self.part("gathered_offset"), offsets[..., None])
        if "MatMulBlocks" in self.kinds:
            weights.add(self.part("offset"), offsets.T * np.float32(self.form.block))


def spell_out_blocks(model: ModelProto) -> list[BlockWeights]:
    """Replace the nodes of domain `llmos` that multiply and gather; other nodes stay.

    Returns:
        The matrices that those nodes read. They are taken out of `model`, which is whole again once the parts of each
        (`BlockWeights.write`) are among its initializers.
    """
    spelling = _Spelling({tensor.name: tensor for tensor in model.graph.initializer})
    for node in model.graph.node:
        spelling.add(node)
    del model.graph.node[:]
    model.graph.node.extend(spelling.nodes)
    others = [tensor for tensor in model.graph.initializer if tensor.name not in spelling.matrices]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*others, *spelling.constants])
    if all(node.domain != DOMAIN for node in spelling.nodes):
        opsets = [opset for opset in model.opset_import if opset.domain != DOMAIN]
        del model.opset_import[:]
        model.opset_import.extend(opsets)
    return list(spelling.matrices.values())


def gate_nodes(x: str, gate: int, name: str) -> tuple[str, list[NodeProto]]:
    """What is multiplied where `MatMulBlocks` has `x [..., 2 * K]` and a `gate`, and the nodes that make it."""
    if not gate:
        return x, []
    kind, settings = _ACTIVATIONS[gate]
    halves, active, gated = [f"{name}.gate", f"{name}.up"], f"{name}.active", f"{name}.gated"
    return gated, [
        helper.make_node("Split", [x], halves, name=halves[0], axis=-1, num_outputs=2),
        helper.make_node(kind, halves[:1], [active], name=active, domain=MICROSOFT, **settings),
        helper.make_node("Mul", [active, halves[1]], [gated], name=gated),
    ]


class _Spelling:
    """The nodes of the new graph, in their order; those that are added have the names of their outputs."""

    def __init__(self, initializers: dict[str, TensorProto]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.matrices: dict[str, BlockWeights] = {}
        self._initializers = initializers
        self._means: dict[tuple[str, int], str] = {}

    def add(self, node: NodeProto) -> None:
        """A node of the old graph, as one or more of the new."""
        if node.domain != DOMAIN or node.op_type not in ("MatMulBlocks", "GatherBlocks"):
            self.nodes.append(node)
            return
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        stored = node.input[1]
        if stored not in self.matrices:
            self.matrices[stored] = BlockWeights(self._initializers[stored], attributes, stored_form(attributes))
        matrix = self.matrices[stored]
        matrix.kinds.add(node.op_type)
        if node.op_type == "GatherBlocks":
            self._gather(node, matrix)
        else:
            self._multiply(node, matrix, attributes["gate"])

    def _multiply(self, node: NodeProto, matrix: BlockWeights, gate: int) -> None:
        output, bias = node.output[0], list(node.input[2:])
        x, nodes = gate_nodes(node.input[0], gate, output)
        self.nodes += nodes
        form = matrix.form
        product = f"{output}.product" if form.offsets else output
        inputs = [x, matrix.part("packed"), matrix.part("scales"), *(["", "", *bias] if bias else [])]
        self._node(
            "MatMulNBits", inputs, product, domain=MICROSOFT, bits=form.bits, block_size=form.block,
            K=matrix.attributes["K"], N=matrix.attributes["N"], accuracy_level=_INT8_ACTIVATIONS,
        )  # fmt: skip
        if form.offsets:
            rest = self._node("MatMul", [self._mean(x, form.block), matrix.part("offset")], f"{output}.rest")
            self._node("Add", [product, rest], output)

    def _mean(self, x: str, block: int) -> str:
        """The mean of each block of `x [B, S, K]`: `[B, S, K/block]`; made once per input."""
        if (x, block) not in self._means:
            self._means[x, block] = self._node(
                "AveragePool", [x], f"{x}.block_mean_{block}", kernel_shape=[block], strides=[block]
            )
        return self._means[x, block]

    def _gather(self, node: NodeProto, matrix: BlockWeights) -> None:
        ids, output = node.input[0], node.output[0]
        form = matrix.form
        codes = f"{output}.codes" if form.offsets else output
        self._node(
            "GatherBlockQuantized", [matrix.part("table"), ids, matrix.part("scales")], codes, domain=MICROSOFT,
            bits=form.bits, block_size=form.block, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        if not form.offsets:
            return
        gathered = self._node("Gather", [matrix.part("gathered_offset"), ids], f"{output}.offsets", axis=0)
        blocks = self._node(
            "Reshape", [codes, self._constant(f"{output}.by_block", [0, 0, -1, form.block])], f"{output}.blocks"
        )
        moved = self._node("Add", [blocks, gathered], f"{output}.moved")
        self._node("Reshape", [moved, self._constant(f"{output}.by_row", [0, 0, -1])], output)

    def _node(self, kind: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def _constant(self, name: str, values: list[int]) -> str:
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name
