"""Builds the ONNX decoder graph of an architecture (see `DecoderSpec` for its inputs and outputs)."""

from collections.abc import Callable
from itertools import accumulate
from math import prod

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

import operators
from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.attention import Attention
from devtools.convert.decoder.embedding import add_embedding, add_head
from devtools.convert.decoder.experts import ExpertMixtures
from devtools.convert.decoder.linear import Linear
from devtools.convert.decoder.mlp import add_mlp
from devtools.convert.decoder.norm import Norms
from devtools.convert.graph.nodes import MICROSOFT, GraphNodes
from devtools.convert.graph.weight_file import WeightFile
from devtools.convert.source import WeightSource
from shared.contracts.manifest import KvType

KV_TYPE: KvType = "float16"
"""Of keys and values, which `CachedAttention` computes with in float32 (docs/adr/0051)."""
_KV = np.dtype(KV_TYPE)
_OPSET, _MICROSOFT_OPSET, _IR_VERSION = 21, 1, 10


def written_shares(source: WeightSource, arch: Architecture) -> list[float]:
    """The fraction of the weights up to and including embedding, each layer, and head."""
    sizes = [0] * (arch.layers + 2)
    for name in source.names():
        layer = name.split(".")[1] if name.startswith("blk.") else ""
        sizes[int(layer) + 1 if layer else 0 if name == "token_embd" else -1] += prod(source.shape(name))
    return [done / sum(sizes) for done in accumulate(sizes)]


class GraphBuilder:
    """Turns the tensors of a source into nodes and initializers, one layer at a time.

    A layer is pre-norm attention and a pre-norm gated MLP (or a mixture of those) around a residual stream; each norm
    but the first is fused with the addition before it.
    """

    def __init__(self, architecture: Architecture, source: WeightSource, weights: WeightFile) -> None:
        self.arch = architecture
        self._source = source
        self._nodes = GraphNodes(weights)
        self._linear = Linear(self._nodes, source)
        self._norms = Norms(self._nodes, source, epsilon=architecture.norm_epsilon)
        self._attention = Attention(architecture, self._nodes, self._linear, self._norms)
        self._mixtures = ExpertMixtures(architecture, self._nodes, source)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the matrices that ONNX Runtime rearranges into memory of its own."""
        return self._nodes.packed_bytes

    @property
    def mapped_bytes(self) -> int:
        """Bytes that it reads where they lie in the file."""
        return self._nodes.mapped_bytes

    def build(self, on_progress: Callable[[float], None]) -> ModelProto:
        """The whole graph; calls `on_progress` with the fraction of the weights that is written."""
        arch, nodes = self.arch, self._nodes
        shares = iter(written_shares(self._source, arch))
        hidden = add_embedding(nodes, self._source, self._linear, "input_ids", scale=arch.embedding_scale)
        on_progress(next(shares))
        normed = self._norms.apply(hidden, "blk.0.attn_norm", "blk.0.attn_in")
        for layer in range(arch.layers):
            after = "output_norm" if layer == arch.layers - 1 else f"blk.{layer + 1}.attn_norm"
            hidden, normed = self._layer(layer, hidden, normed, after)
            on_progress(next(shares))
        rows = nodes.add("Reshape", [normed, nodes.constant("flat", [-1, 1, arch.hidden_size])], "rows")
        outputs = nodes.add("Gather", [rows, "output_index"], "output_rows", axis=0)
        head = add_head(self._source, self._linear, outputs, "output_logits")
        on_progress(next(shares))
        nodes.add("Squeeze", [head, nodes.constant("middle", [1])], "logits")
        graph = helper.make_graph(
            nodes.nodes, "decoder", self._inputs(), self._outputs(), initializer=nodes.weights.initializers
        )
        versions = {"": _OPSET, MICROSOFT: _MICROSOFT_OPSET, operators.DOMAIN: operators.VERSION}
        opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="llmos")

    def _layer(self, layer: int, residual: str, normed: str, next_norm: str) -> tuple[str, str]:
        """One block: (residual stream [B, S, H], its normed form) -> the same after the block."""
        name = f"blk.{layer}"
        update = self._attention.apply(normed, layer)
        if self.arch.sandwich_norms:
            update = self._norms.apply(update, f"{name}.post_attention_norm", f"{name}.attn_post")
        residual, normed = self._norms.add_and_apply(update, residual, f"{name}.ffn_norm", f"{name}.ffn_in")
        if self.arch.experts_of(layer) is None:
            update = add_mlp(self._linear, normed, name, self.arch.activation)
        else:
            update = self._mixtures.apply(normed, layer)
        if self.arch.sandwich_norms:
            update = self._norms.apply(update, f"{name}.post_ffw_norm", f"{name}.ffn_post")
        return self._norms.add_and_apply(update, residual, next_norm, f"{name}.out")

    def _inputs(self) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "new"]),
            helper.make_tensor_value_info("slots", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
            helper.make_tensor_value_info("output_index", TensorProto.INT64, ["outputs"]),
            *self._cache("past"),
        ]

    def _outputs(self) -> list[ValueInfoProto]:
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["outputs", self.arch.vocab_size])
        return [logits, *self._cache("present")]

    def _cache(self, when: str) -> list[ValueInfoProto]:
        shape: list[str | int | None] = ["slots", self.arch.kv_heads, "max_len", self.arch.head_dim]
        return [
            helper.make_tensor_value_info(f"{when}_{kind}.{layer}", helper.np_dtype_to_tensor_dtype(_KV), shape)
            for layer in range(self.arch.layers)
            for kind in ("key", "value")
        ]
