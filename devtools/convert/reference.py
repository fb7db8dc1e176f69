"""A plain numpy forward pass on dequantised weights: what every built graph is compared with.

It shares no arithmetic with the graph: float32 weights by the definition of their GGUF type, attention written out,
no cache, no fusion.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from devtools.convert.architecture import Architecture
from devtools.convert.gguf_file import GgufTensor
from devtools.convert.quants import Floats, dequantise


class Reference:
    """A Llama in numpy; weights are dequantised when they are used, so that one matrix is in memory at a time."""

    def __init__(self, architecture: Architecture, tensors: Mapping[str, GgufTensor]) -> None:
        self.arch = architecture
        self.tensors = tensors

    def logits(self, ids: Sequence[int]) -> Floats:
        """Token ids [S] to logits float32 [S, vocab_size]."""
        arch = self.arch
        hidden = dequantise(self.tensors["token_embd.weight"], np.asarray(ids))
        for layer in range(arch.layers):
            name = f"blk.{layer}"
            hidden = hidden + self._attention(self._norm(hidden, f"{name}.attn_norm"), name)
            hidden = hidden + self._feed_forward(self._norm(hidden, f"{name}.ffn_norm"), name)
        head = "output" if "output.weight" in self.tensors else "token_embd"
        return self._norm(hidden, "output_norm") @ self._weight(head).T

    def _attention(self, x: Floats, name: str) -> Floats:
        arch, length = self.arch, len(x)
        query = self._rotate((x @ self._weight(f"{name}.attn_q").T).reshape(length, arch.heads, arch.head_dim))
        key = self._rotate((x @ self._weight(f"{name}.attn_k").T).reshape(length, arch.kv_heads, arch.head_dim))
        value = (x @ self._weight(f"{name}.attn_v").T).reshape(length, arch.kv_heads, arch.head_dim)
        group = arch.heads // arch.kv_heads
        key, value = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(np.float32(arch.head_dim))
        scores = np.where(np.tri(length, dtype=bool), scores, np.float32(-np.inf))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, value).reshape(length, -1)
        attended: Floats = mixed @ self._weight(f"{name}.attn_output").T
        return attended

    def _feed_forward(self, x: Floats, name: str) -> Floats:
        gate = x @ self._weight(f"{name}.ffn_gate").T
        up = x @ self._weight(f"{name}.ffn_up").T
        down: Floats = (gate / (1 + np.exp(-gate)) * up) @ self._weight(f"{name}.ffn_down").T
        return down

    def _rotate(self, x: Floats) -> Floats:
        """Turn neighbouring dimensions (2i, 2i + 1) of `x [S, heads, head_dim]` by position times frequency i."""
        angles = np.arange(len(x))[:, None, None] * self.arch.rope_frequencies.astype(np.float64)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def _norm(self, x: Floats, name: str) -> Floats:
        scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self.arch.norm_epsilon))
        normed: Floats = x * scale * self._weight(name)
        return normed

    def _weight(self, name: str) -> Floats:
        return dequantise(self.tensors[f"{name}.weight"])


def perplexity(logits: Floats, ids: Sequence[int]) -> float:
    """The exponential of the mean negative log likelihood of `ids[1:]`, each given those before it.

    Args:
        logits: float32 [S, vocab_size], row i made from `ids[: i + 1]`.
        ids: The S tokens.
    """
    surprises = []
    for row, following in zip(logits, ids[1:], strict=False):
        peak = float(row.max())
        total = peak + math.log(float(np.exp(row - peak, dtype=np.float64).sum()))
        surprises.append(total - float(row[following]))
    return math.exp(sum(surprises) / len(surprises))
