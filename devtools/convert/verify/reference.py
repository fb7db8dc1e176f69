"""A plain numpy forward pass on dequantised weights: what every built graph is compared with.

It shares no arithmetic with the graph: float32 weights by the definition of their type, attention written out, no
cache, no fusion.
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from devtools.convert.decoder.architecture import Activation, Architecture, Experts, LayerAttention
from devtools.convert.decoder.rope import Rope
from devtools.convert.graph.block_matrix import Floats, in_pieces
from devtools.convert.source import WeightSource

Chosen = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Reference:
    """A decoder in numpy; weights are dequantised when they are used, some rows of a matrix at a time."""

    def __init__(self, architecture: Architecture, source: WeightSource) -> None:
        self.arch = architecture
        self.source = source

    def logits(self, ids: Sequence[int]) -> Floats:
        """Token ids [S] to logits float32 [S, vocab_size]."""
        *_, logits = self.layers(ids)
        return logits

    def layers(self, ids: Sequence[int]) -> Iterator[Floats]:
        """Token ids [S] to embeddings and the residual stream after each layer, float32 [S, H]; last, the logits."""
        arch = self.arch
        hidden = self.source.dequantise("token_embd", np.asarray(ids)) * np.float32(arch.embedding_scale)
        yield hidden
        for layer, attention in enumerate(arch.attention):
            name = f"blk.{layer}"
            update = self._attention(self._norm(hidden, f"{name}.attn_norm"), name, attention)
            hidden = hidden + self._post(update, f"{name}.post_attention_norm")
            normed = self._norm(hidden, f"{name}.ffn_norm")
            experts = arch.experts_of(layer)
            update = self._mlp(normed, name) if experts is None else self._mixture(normed, name, experts)
            hidden = hidden + self._post(update, f"{name}.post_ffw_norm")
            yield hidden
        head = "token_embd" if arch.tied_head else "output"
        yield self._linear(self._norm(hidden, "output_norm"), head)

    def _attention(self, x: Floats, name: str, attention: LayerAttention) -> Floats:
        arch, length = self.arch, len(x)
        query, key, value = (self._linear(x, f"{name}.attn_{part}") for part in "qkv")
        if arch.qk_norm_whole:
            query, key = self._norm(query, f"{name}.attn_q_norm"), self._norm(key, f"{name}.attn_k_norm")
        query, key, value = (part.reshape(length, -1, arch.head_dim) for part in (query, key, value))
        if arch.qk_norm and not arch.qk_norm_whole:
            query, key = self._norm(query, f"{name}.attn_q_norm"), self._norm(key, f"{name}.attn_k_norm")
        if attention.rope is not None:
            query, key = self._rotate(query, attention.rope), self._rotate(key, attention.rope)
        group = arch.heads // arch.kv_heads
        key, value = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
        scale = arch.head_dim**-0.5 if arch.attention_scale is None else arch.attention_scale
        query, key, value = (part.swapaxes(0, 1) for part in (query, key, value))  # [heads, S, head_dim]
        scores = query @ key.swapaxes(1, 2) * np.float32(scale)
        scores = np.where(_seen(length, attention.window), scores, np.float32(-np.inf))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ value).swapaxes(0, 1).reshape(length, -1)
        return self._linear(mixed, f"{name}.attn_output")

    def _mlp(self, x: Floats, name: str, suffix: str = "") -> Floats:
        gate, up = (self._linear(x, f"{name}.ffn_{part}{suffix}") for part in ("gate", "up"))
        return self._linear(_activate(gate, self.arch.activation) * up, f"{name}.ffn_down{suffix}")

    def _mixture(self, x: Floats, name: str, experts: Experts) -> Floats:
        scores = self._linear(x, f"{name}.ffn_gate_inp")
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        chosen = self._chosen(name, shares, experts.used)
        weights = np.take_along_axis(shares, chosen, axis=-1)
        if experts.normalised:
            weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.zeros_like(x)
        for expert in np.unique(chosen):
            tokens, places = np.nonzero(chosen == expert)
            mixed[tokens] += weights[tokens, places, None] * self._mlp(x[tokens], name, f".{expert}")
        if experts.shared_size:
            share = 1 / (1 + np.exp(-self._linear(x, f"{name}.ffn_gate_inp_shexp")))
            mixed += share * self._mlp(x, name, "_shexp")
        return mixed

    def _chosen(self, name: str, shares: Floats, used: int) -> Chosen:  # noqa: ARG002  # for those that look elsewhere
        """The experts of each token [S, used] of the layer `name`, by their `shares [S, experts]`."""
        return np.argsort(-shares, axis=-1, kind="stable")[:, :used]

    def _rotate(self, x: Floats, rope: Rope) -> Floats:
        """Turn the pairs of dimensions of `x [S, heads, head_dim]` by position times frequency."""
        angles = np.arange(len(x))[:, None, None] * rope.frequencies
        cos = (np.cos(angles) * rope.magnitude).astype(np.float32)
        sin = (np.sin(angles) * rope.magnitude).astype(np.float32)
        if self.arch.rotary_interleaved:
            first, second = x[..., 0::2], x[..., 1::2]
            rotated = [first * cos - second * sin, first * sin + second * cos]
            return np.stack(rotated, axis=-1).reshape(x.shape)
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)

    def _post(self, update: Floats, name: str) -> Floats:
        return self._norm(update, name) if self.arch.sandwich_norms else update

    def _norm(self, x: Floats, name: str) -> Floats:
        scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self.arch.norm_epsilon))
        normed: Floats = x * scale * self.source.vector(name)
        return normed

    def _linear(self, x: Floats, name: str) -> Floats:
        rows, columns = self.source.shape(name)
        product = np.empty((len(x), rows), np.float32)

        def multiply(piece: slice) -> None:
            product[:, piece] = x @ self.source.dequantise(name, piece).T

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy works without the interpreter's lock
            list(pool.map(multiply, in_pieces(rows, columns)))
        bias = f"{name}.bias"
        return product + self.source.vector(bias) if self.source.has(bias) else product


def _seen(length: int, window: int | None) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """[S, S]: which token (row) sees which (column)."""
    seen = np.tri(length, dtype=bool)
    return seen if window is None else seen & ~np.tri(length, k=-window, dtype=bool)


def _activate(x: Floats, activation: Activation) -> Floats:
    if activation is Activation.SILU:
        return np.asarray(x / (1 + np.exp(-x)), np.float32)
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)), np.float32)
