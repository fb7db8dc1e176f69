"""The ONNX graph of a BERT (also RoBERTa's kind), with ONNX Runtime's fused operators; inputs as `EncoderSpec` says.

Whatever works on single tokens (embeddings, norms, every matrix) runs on the texts' tokens alone, one after the other
without padding; only attention sees them as rows of equal length:

    tokens [T, H] ── gather by `padded` ──> [B, S, 3H] ── attention ──> [B, S, H] ── gather by `unpadded` ──> [T, H]

so a batch of mixed lengths costs little more than its tokens, and padding can't reach a text's numbers.
Paper: https://arxiv.org/abs/1810.04805; operators: ONNX Runtime's ContribOperators.md.
"""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import ModelProto, TensorProto, helper

from devtools.convert.encoder.config import ROBERTA, EncoderConfig
from devtools.convert.encoder.weights import EncoderWeights
from devtools.convert.graph.nodes import MICROSOFT, GraphNodes
from devtools.convert.graph.weight_file import WeightFile
from shared.contracts.manifest import EncoderInput
from shared.errors import UnsupportedFormat

INPUTS: tuple[EncoderInput, ...] = ("input_ids", "attention_mask", "token_type_ids")
STATES, LOGITS = "last_hidden_state", "logits"
_IR_VERSION, _OPSET = 10, 18
_BIASED: Mapping[str, str] = {
    "gelu": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
}
"""ONNX Runtime's operator that adds the bias, too."""


class EncoderGraphBuilder:
    """Builds the graph; its weights go into `file`."""

    def __init__(self, config: EncoderConfig, weights: EncoderWeights, file: WeightFile) -> None:
        if config.activation not in (*_BIASED, "relu"):
            raise UnsupportedFormat(f"the activation {config.activation!r} is not supported", param="source")
        self._config = config
        self._weights = weights
        self.graph = GraphNodes(file)

    def build(self, done: Callable[[int], None]) -> ModelProto:
        """The model; `done` is called after each layer."""
        graph, config = self.graph, self._config
        self._index()
        x = self._embed()
        for layer in range(config.layers):
            x = self._block(x, layer)
            done(layer)
        shape: list[str | int | None] = ["batch", "length", config.hidden_size]
        if config.task == "classify":
            output, shape = self._head(x), ["batch", len(config.labels)]
            if config.pooling == "tokens":
                shape = ["batch", "length", len(config.labels)]
        else:
            output = graph.add("Gather", [x, "padded"], STATES)
        integers = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in self.inputs
        ]
        floats = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        made = helper.make_graph(graph.nodes, "encoder", integers, floats, graph.weights.initializers)
        domains = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(made, opset_imports=domains, ir_version=_IR_VERSION, producer_name="llmos")

    @property
    def inputs(self) -> tuple[EncoderInput, ...]:
        """Names of the graph's inputs."""
        return INPUTS if self._config.type_vocab_size > 1 else INPUTS[:2]

    def _index(self) -> None:
        """`unpadded` int64 [T]: places of the texts' tokens among all; `padded` int64 [B, S]: their rows in turn."""
        graph = self.graph
        graph.constant("flat", [-1])
        graph.constant("axis_0", [0])
        graph.constant("axis_1", [1])
        graph.constant("one", [1])
        graph.add("Shape", ["input_ids"], "shape")
        mask = graph.add("Reshape", ["attention_mask", "flat"], "mask")
        graph.add("Squeeze", [graph.add("NonZero", [mask], "unpadded_2d"), "axis_0"], "unpadded")
        counted = graph.add("Sub", [graph.add("CumSum", [mask, "axis_0"], "counted"), "one"], "counted_from_0")
        # Padding takes the row of the token before it: any row will do, for nothing reads what becomes of it.
        graph.add("Reshape", [counted, "shape"], "padded")
        lengths = graph.add("ReduceSum", ["attention_mask", "axis_1"], "lengths_int64", keepdims=0)
        graph.add("Cast", [lengths], "lengths", to=TensorProto.INT32)
        graph.constant("hidden_rows", [-1, self._config.hidden_size])

    def _unpadded(self, name: str) -> str:
        """The values of an int64 `[B, S]` that belong to tokens."""
        flat = self.graph.add("Reshape", [name, "flat"], f"{name}_flat")
        return self.graph.add("Gather", [flat, "unpadded"], f"{name}_unpadded")

    def _embed(self) -> str:
        graph, config, at = self.graph, self._config, "embeddings"
        words = self._weights.matrix("embeddings.word_embeddings.weight", (config.vocab_size, config.hidden_size))
        summed = graph.add("Gather", [graph.weight("words", words), self._unpadded("input_ids")], "word")
        rows = config.positions + config.position_offset
        table = self._weights.matrix("embeddings.position_embeddings.weight", (rows, config.hidden_size))
        table = table[config.position_offset :]
        types = self._weights.matrix(
            "embeddings.token_type_embeddings.weight", (config.type_vocab_size, config.hidden_size)
        )
        if config.type_vocab_size == 1:
            table = table + types  # one type alone is the same for every token
        self._integer("zero", 0)
        self._integer("step", 1)
        length = graph.add("Squeeze", [graph.add("Gather", ["shape", "one"], "length_1d"), "axis_0"], "length")
        count = graph.add("Range", ["zero", length, "step"], "count")
        graph.add("Expand", [count, "shape"], "positions")
        position = graph.add(
            "Gather", [graph.weight("position_table", table), self._unpadded("positions")], "position"
        )
        summed = graph.add("Add", [summed, position], "word_position")
        if config.type_vocab_size > 1:
            kind = graph.add("Gather", [graph.weight("types", types), self._unpadded("token_type_ids")], "type")
            summed = graph.add("Add", [summed, kind], "embedding")
        scale, bias = self._norm(f"{at}.LayerNorm")
        return graph.add(
            "LayerNormalization", [summed, scale, bias], "embedding_norm", axis=-1, epsilon=config.norm_eps
        )

    def _block(self, x: str, layer: int) -> str:
        config, graph, at = self._config, self.graph, f"encoder.layer.{layer}"
        hidden, wide = config.hidden_size, config.feed_forward_size
        parts = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        matrix = np.concatenate([self._weights.linear(part, hidden, hidden) for part in parts], axis=1)
        bias = np.concatenate([self._weights.vector(f"{part}.bias", hidden) for part in parts])
        qkv = graph.add("MatMul", [x, graph.packed(f"{at}.qkv.weight", matrix)], f"{at}.qkv")
        rows = graph.add("Gather", [qkv, "padded"], f"{at}.qkv_padded")
        q, k, v = (f"{at}.{name}" for name in "qkv")
        graph.add("Split", [rows], q, more_outputs=(k, v), axis=-1, num_outputs=3)
        attended = graph.add(
            "MultiHeadAttention", [q, k, v, graph.weight(f"{at}.qkv.bias", bias), "lengths"], f"{at}.attended",
            domain=MICROSOFT, num_heads=config.heads,
        )  # fmt: skip
        flat = graph.add("Reshape", [attended, "hidden_rows"], f"{at}.attended_rows")
        context = graph.add("Gather", [flat, "unpadded"], f"{at}.context")
        x = self._project(context, x, f"{at}.attention.output", hidden)
        inner = f"{at}.intermediate.dense"
        matrix = self._weights.linear(inner, hidden, wide)
        up = graph.add("MatMul", [x, graph.packed(f"{inner}.weight", matrix)], f"{at}.up")
        bias = self._weights.vector(f"{inner}.bias", wide)
        return self._project(self._activate(up, bias, at), x, f"{at}.output", wide)

    def _activate(self, x: str, bias: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", at: str) -> str:
        named = self.graph.weight(f"{at}.up.bias", bias)
        if self._config.activation == "relu":
            return self.graph.add("Relu", [self.graph.add("Add", [x, named], f"{at}.up_biased")], f"{at}.active")
        kind = _BIASED[self._config.activation]
        return self.graph.add(kind, [x, named], f"{at}.active", domain=MICROSOFT)

    def _project(self, x: str, residual: str, at: str, width: int) -> str:
        """`x` times a matrix, plus its bias and the residual, normalised."""
        graph, hidden = self.graph, self._config.hidden_size
        matrix = self._weights.linear(f"{at}.dense", width, hidden)
        product = graph.add("MatMul", [x, graph.packed(f"{at}.dense.weight", matrix)], f"{at}.product")
        bias = graph.weight(f"{at}.dense.bias", self._weights.vector(f"{at}.dense.bias", hidden))
        scale, shift = self._norm(f"{at}.LayerNorm")
        return graph.add(
            "SkipLayerNormalization", [product, residual, scale, shift, bias], f"{at}.normed",
            domain=MICROSOFT, epsilon=self._config.norm_eps,
        )  # fmt: skip

    def _norm(self, at: str) -> tuple[str, str]:
        hidden = self._config.hidden_size
        return (
            self.graph.weight(f"{at}.weight", self._weights.vector(f"{at}.weight", hidden)),
            self.graph.weight(f"{at}.bias", self._weights.vector(f"{at}.bias", hidden)),
        )

    def _head(self, x: str) -> str:
        """The classifier on the first token's vector, or on that of each token."""
        graph, config = self.graph, self._config
        if config.pooling == "tokens":
            return graph.add("Gather", [self._plain(x, "classifier", len(config.labels)), "padded"], LOGITS)
        first = graph.add("Gather", ["padded", self._integer("first_column", 0)], "first", axis=1)
        state = graph.add("Gather", [x, first], "first_state")
        roberta = config.family in ROBERTA
        dense, final = ("classifier.dense", "classifier.out_proj") if roberta else ("pooler.dense", "classifier")
        state = graph.add("Tanh", [self._plain(state, dense, config.hidden_size)], "pooled")
        return graph.add("Identity", [self._plain(state, final, len(config.labels))], LOGITS)

    def _integer(self, name: str, value: int) -> str:
        self.graph.weights.initializers.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
        return name

    def _plain(self, x: str, at: str, width: int) -> str:
        matrix = self.graph.packed(f"{at}.weight", self._weights.linear(at, self._config.hidden_size, width))
        bias = self.graph.weight(f"{at}.bias", self._weights.vector(f"{at}.bias", width))
        return self.graph.add("Gemm", [x, matrix, bias], f"{at}.out")
