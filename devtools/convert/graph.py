"""Builds the ONNX decoder graph of a Llama (see `DecoderSpec` for its inputs and outputs).

A quantised matrix is multiplied exactly as its GGUF type defines it: `MatMulNBits` gives `x @ (scale * (q - 8))`, and
the rest, a constant per block of 32 inputs, is the block's offset times the sum of its inputs:

    y = MatMulNBits(x, q, scale) + blocksum(x) @ offset^T

`blocksum` is an average pool over the last axis: one node, where reshape and reduce are two (a node costs about
10 us, which matters when one token is decoded), and matrices that read the same input share it. Q, K and V are one
matrix, and so are gate and up.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from devtools.convert.architecture import Architecture
from devtools.convert.gguf_file import GgufTensor
from devtools.convert.quants import BLOCK, BlockMatrix, Floats, dequantise, pack
from devtools.convert.weight_file import WeightFile

_MICROSOFT = "com.microsoft"
_OPSET, _MICROSOFT_OPSET, _IR_VERSION = 21, 1, 10
_INT8_ACTIVATIONS = 4
"""`accuracy_level`: products in int8 with one activation scale per block; other levels are 5 to 30 times slower."""


class GraphBuilder:
    """Turns the tensors of a GGUF into nodes and initializers, one layer at a time."""

    def __init__(self, architecture: Architecture, tensors: Mapping[str, GgufTensor], weights: WeightFile) -> None:
        self.arch = architecture
        self.tensors = tensors
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.packed_bytes = 0
        """Bytes of the matrices that ONNX Runtime rearranges into memory of its own."""
        self.mapped_bytes = 0
        """Bytes that it reads where they lie in the file."""
        self._block_sums: dict[str, str] = {}

    def build(self, on_layer: Callable[[int], None]) -> ModelProto:
        """The whole graph; calls `on_layer(l)` after each layer is written."""
        arch = self.arch
        cos_sin = self._rotary_caches()
        hidden = self._embed("input_ids")
        self.mapped_bytes = self.weights.size
        normed = self._node("SimplifiedLayerNormalization", [hidden, self._norm("blk.0.attn_norm")], "blk.0.attn_in",
                            axis=-1, epsilon=arch.norm_epsilon, stash_type=1)  # fmt: skip
        for layer in range(arch.layers):
            after = "output_norm" if layer == arch.layers - 1 else f"blk.{layer + 1}.attn_norm"
            hidden, normed = self._layer(layer, hidden, normed, cos_sin, after)
            on_layer(layer)
        rows = self._node("Reshape", [normed, self._constant("flat", [-1, 1, arch.hidden_size])], "rows")
        wanted = self._node("Gather", [rows, "output_index"], "wanted_rows", axis=0)
        self._node("Squeeze", [self._head(wanted, "wanted_logits"), self._constant("middle", [1])], "logits")
        graph = helper.make_graph(
            self.nodes, "decoder", self._inputs(), self._outputs(), initializer=self.weights.initializers
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, _MICROSOFT_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="llmos")

    def _layer(
        self, layer: int, residual: str, normed: str, cos_sin: tuple[str, str], next_norm: str
    ) -> tuple[str, str]:
        """One block: (residual stream [B, S, H], its normed form) -> the same after the block."""
        arch, name = self.arch, f"blk.{layer}"
        qkv = self._matmul(normed, [f"{name}.attn_q", f"{name}.attn_k", f"{name}.attn_v"], f"{name}.qkv")
        attention = self._node(
            "GroupQueryAttention",
            [qkv, "", "", f"past_key.{layer}", f"past_value.{layer}", "seqlens_k", "total_sequence_length", *cos_sin],
            f"{name}.attention",
            more_outputs=(f"present_key.{layer}", f"present_value.{layer}"),
            domain=_MICROSOFT,
            num_heads=arch.heads,
            kv_num_heads=arch.kv_heads,
            do_rotary=1,
            rotary_interleaved=1,
        )
        attended = self._matmul(attention, [f"{name}.attn_output"], f"{name}.attn_out")
        residual, normed = self._add_and_norm(attended, residual, f"{name}.ffn_norm", f"{name}.ffn_in")
        gate_up = self._matmul(normed, [f"{name}.ffn_gate", f"{name}.ffn_up"], f"{name}.gate_up")
        gate = f"{name}.gate"
        self._node("Split", [gate_up], gate, more_outputs=(f"{name}.up",), axis=-1, num_outputs=2)
        gate = self._node("QuickGelu", [gate], f"{name}.silu", domain=_MICROSOFT, alpha=1.0)
        gated = self._node("Mul", [gate, f"{name}.up"], f"{name}.gated")
        down = self._matmul(gated, [f"{name}.ffn_down"], f"{name}.down")
        return self._add_and_norm(down, residual, next_norm, f"{name}.out")

    def _add_and_norm(self, update: str, residual: str, norm: str, name: str) -> tuple[str, str]:
        normed = self._node(
            "SkipSimplifiedLayerNormalization", [update, residual, self._norm(norm)], f"{name}.normed",
            more_outputs=("", "", f"{name}.residual"), domain=_MICROSOFT, epsilon=self.arch.norm_epsilon,
        )  # fmt: skip
        return f"{name}.residual", normed

    def _matmul(self, source: str, names: Sequence[str], output: str) -> str:
        """`source [..., K]` times the matrices `names`, their rows (output features) one after the other."""
        matrices = _join([pack(self.tensors[f"{name}.weight"]) for name in names])
        if len(matrices) == 1:
            return self._multiply(source, matrices[0], output)
        parts = [self._multiply(source, matrix, f"{output}.{i}") for i, matrix in enumerate(matrices)]
        return self._node("Concat", parts, output, axis=-1)

    def _multiply(self, source: str, matrix: BlockMatrix | Floats, output: str) -> str:
        if not isinstance(matrix, BlockMatrix):
            return self._node("MatMul", [source, self._dense(f"{output}.weight", matrix.T)], output)
        packed = self.weights.add(f"{output}.packed", matrix.packed)
        scales = self.weights.add(f"{output}.scales", matrix.scales)
        if matrix.offset is None:
            return self._multiply_blocks(source, packed, scales, matrix, output)
        product = self._multiply_blocks(source, packed, scales, matrix, f"{output}.product")
        offset = self._dense(f"{output}.offset", matrix.offset.T * np.float32(BLOCK))
        rest = self._node("MatMul", [self._block_mean(source), offset], f"{output}.rest")
        return self._node("Add", [product, rest], output)

    def _dense(self, name: str, matrix: Floats) -> str:
        self.packed_bytes += matrix.nbytes
        return self.weights.add(name, matrix)

    def _multiply_blocks(self, source: str, packed: str, scales: str, matrix: BlockMatrix, output: str) -> str:
        self.packed_bytes += matrix.packed.nbytes + matrix.scales.nbytes
        return self._node(
            "MatMulNBits", [source, packed, scales], output, domain=_MICROSOFT, bits=matrix.bits, block_size=BLOCK,
            K=matrix.columns, N=matrix.rows, accuracy_level=_INT8_ACTIVATIONS,
        )  # fmt: skip

    def _block_mean(self, source: str) -> str:
        """The mean of each block of 32 of `source [..., K]`: `[..., K/32]`; made once per source."""
        if source not in self._block_sums:
            self._block_sums[source] = self._node(
                "AveragePool", [source], f"{source}.block_mean", kernel_shape=[BLOCK], strides=[BLOCK]
            )
        return self._block_sums[source]

    def _embed(self, ids: str) -> str:
        """Token ids [B, S] to float32 [B, S, hidden_size]."""
        matrix = pack(self.tensors["token_embd.weight"])
        if isinstance(matrix, BlockMatrix) and matrix.offset is None:
            table = self.weights.add("token_embd.packed", matrix.packed.reshape(matrix.rows, -1))
            scales = self.weights.add("token_embd.scales", matrix.scales)
            return self._node(
                "GatherBlockQuantized",
                [table, ids, scales],
                "embedded",
                domain=_MICROSOFT,
                bits=matrix.bits,
                block_size=BLOCK,
                gather_axis=0,
                quantize_axis=1,
            )
        table = self.weights.add("token_embd.weight", dequantise(self.tensors["token_embd.weight"]))
        return self._node("Gather", [table, ids], "embedded", axis=0)

    def _head(self, rows: str, output: str) -> str:
        """Hidden rows [N, 1, hidden_size] to logits [N, 1, vocab_size]; tied to the embedding without `output`."""
        if "output.weight" in self.tensors:
            return self._matmul(rows, ["output"], output)
        matrix = pack(self.tensors["token_embd.weight"])
        if isinstance(matrix, BlockMatrix) and matrix.offset is None:
            packed = self.weights.view("head.packed", "token_embd.packed", matrix.packed.shape)
            return self._multiply_blocks(rows, packed, "token_embd.scales", matrix, output)
        return self._matmul(rows, ["token_embd"], output)

    def _rotary_caches(self) -> tuple[str, str]:
        positions = np.arange(self.arch.context_length, dtype=np.float64)
        angles = positions[:, None] * self.arch.rope_frequencies.astype(np.float64)
        return (
            self.weights.add("rope.cos", np.cos(angles).astype(np.float32)),
            self.weights.add("rope.sin", np.sin(angles).astype(np.float32)),
        )

    def _norm(self, name: str) -> str:
        return self.weights.add(f"{name}.weight", dequantise(self.tensors[f"{name}.weight"]))

    def _constant(self, name: str, values: list[int]) -> str:
        self.weights.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def _node(
        self, kind: str, inputs: Sequence[str], output: str, *, more_outputs: tuple[str, ...] = (), domain: str = "",
        **attributes: Any,
    ) -> str:  # fmt: skip
        self.nodes.append(
            helper.make_node(kind, inputs, [output, *more_outputs], name=output, domain=domain, **attributes)
        )
        return output

    def _inputs(self) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "new"]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
            helper.make_tensor_value_info("output_index", TensorProto.INT64, ["wanted"]),
            *self._cache("past"),
        ]

    def _outputs(self) -> list[ValueInfoProto]:
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["wanted", self.arch.vocab_size])
        return [logits, *self._cache("present")]

    def _cache(self, when: str) -> list[ValueInfoProto]:
        shape: list[str | int | None] = ["batch", self.arch.kv_heads, "max_len", self.arch.head_dim]
        return [
            helper.make_tensor_value_info(f"{when}_{kind}.{layer}", TensorProto.FLOAT, shape)
            for layer in range(self.arch.layers)
            for kind in ("key", "value")
        ]


def _join(matrices: list[BlockMatrix | Floats]) -> list[BlockMatrix | Floats]:
    """One matrix with the rows of all where their forms allow it, else the matrices as they are."""
    blocks = [matrix for matrix in matrices if isinstance(matrix, BlockMatrix)]
    dense = [matrix for matrix in matrices if not isinstance(matrix, BlockMatrix)]
    if len(dense) == len(matrices):
        return [np.concatenate(dense)]
    if len(blocks) != len(matrices) or len({matrix.bits for matrix in blocks}) > 1:
        return matrices
    offset = None
    if any(matrix.offset is not None for matrix in blocks):
        offset = np.concatenate(
            [np.zeros_like(matrix.scales) if matrix.offset is None else matrix.offset for matrix in blocks]
        )
    packed, scales = (np.concatenate([getattr(matrix, part) for matrix in blocks]) for part in ("packed", "scales"))
    return [BlockMatrix(blocks[0].bits, packed, scales, offset)]
