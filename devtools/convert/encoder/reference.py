"""A BERT's forward pass in NumPy, one text at a time: what the built graph is checked against."""

import math

import numpy as np
from numpy.typing import NDArray

from devtools.convert.encoder.config import ROBERTA, EncoderConfig
from devtools.convert.encoder.weights import EncoderWeights
from devtools.convert.graph.block_matrix import Floats

_erf = np.vectorize(math.erf, otypes=[np.float64])


class EncoderReference:
    """Computes in float64 what transformers' `BertModel` computes."""

    def __init__(self, config: EncoderConfig, weights: EncoderWeights) -> None:
        self._config = config
        self._weights = weights

    def output(self, ids: NDArray[np.int64], types: NDArray[np.int64]) -> Floats:
        """`[S, hidden_size]` for token ids and types `[S]`; of a classifier `[labels]`, or `[S, labels]`."""
        config, hidden = self._config, self._config.hidden_size
        table = self._weights.matrix
        rows = config.positions + config.position_offset
        x = table("embeddings.word_embeddings.weight", (config.vocab_size, hidden))[ids].astype(np.float64)
        places = np.arange(len(ids)) + config.position_offset
        x += table("embeddings.position_embeddings.weight", (rows, hidden))[places]
        x += table("embeddings.token_type_embeddings.weight", (config.type_vocab_size, hidden))[types]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(config.layers):
            x = self._block(x, f"encoder.layer.{layer}")
        if config.pooling == "tokens":
            return self._linear(x, "classifier", hidden, len(config.labels)).astype(np.float32)
        if config.task == "classify":
            roberta = config.family in ROBERTA
            dense, final = ("classifier.dense", "classifier.out_proj") if roberta else ("pooler.dense", "classifier")
            x = self._linear(np.tanh(self._linear(x[0], dense, hidden, hidden)), final, hidden, len(config.labels))
        return x.astype(np.float32)

    def _block(self, x: NDArray[np.float64], at: str) -> NDArray[np.float64]:
        config, hidden = self._config, self._config.hidden_size
        size = hidden // config.heads
        q, k, v = (
            self._linear(x, f"{at}.attention.self.{name}", hidden, hidden).reshape(-1, config.heads, size)
            for name in ("query", "key", "value")
        )
        weights = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(size)
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        attended = np.einsum("hij,jhd->ihd", weights, v).reshape(x.shape)
        out = self._linear(attended, f"{at}.attention.output.dense", hidden, hidden)
        x = self._norm(out + x, f"{at}.attention.output.LayerNorm")
        wide = self._activate(self._linear(x, f"{at}.intermediate.dense", hidden, config.feed_forward_size))
        out = self._linear(wide, f"{at}.output.dense", config.feed_forward_size, hidden)
        return self._norm(out + x, f"{at}.output.LayerNorm")

    def _linear(self, x: NDArray[np.float64], at: str, inputs: int, outputs: int) -> NDArray[np.float64]:
        product: NDArray[np.float64] = x @ self._weights.linear(at, inputs, outputs).astype(np.float64)
        return product + self._weights.vector(f"{at}.bias", outputs)

    def _norm(self, x: NDArray[np.float64], at: str) -> NDArray[np.float64]:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._config.norm_eps)
        hidden = self._config.hidden_size
        scaled: NDArray[np.float64] = centred / spread * self._weights.vector(f"{at}.weight", hidden)
        return scaled + self._weights.vector(f"{at}.bias", hidden)

    def _activate(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._config.activation == "relu":
            return np.maximum(x, 0.0)
        if self._config.activation == "gelu":
            exact: NDArray[np.float64] = 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))
            return exact
        tanh: NDArray[np.float64] = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
        return tanh
