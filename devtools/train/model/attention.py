"""Attention: rotary, grouped-query, causal, within a window and within a document."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.rope import Rope

PADDING, SHARED = -1, -2
"""Documents of tokens that are none, and of those that all documents of a row begin with."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of a batch stand.

    positions: int64 [B, T], from 0 on in each document
    documents: int64 [B, T], the number of each token's document; None where a row is one document
    """

    positions: Tensor
    documents: Tensor | None = None


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) V, the attention of https://arxiv.org/abs/1706.03762, for each head.

    PyTorch's kernel computes it block by block, so the T x T scores never exist as a whole. Of `key` and `value`
    there may be fewer heads: neighbouring query heads share one (https://arxiv.org/abs/2305.13245).

    Args:
        query: [B, heads, T, d_k].
        key: [B, kv_heads, T, d_k].
        value: Like `key`.
        scale: 1 / sqrt(d_k), unless the family has another.
        mask: bool [B, 1, T, T], true where a token (row) sees another (column). None: all before it and
            itself.

    Returns:
        [B, heads, T, d_k].
    """
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


def attention_scale(arch: Architecture) -> float:
    """What scores are multiplied by: 1 / sqrt(d_k), unless the architecture says otherwise."""
    return 1 / math.sqrt(arch.head_dim) if arch.attention_scale is None else arch.attention_scale


def attention_mask(places: Places, window: int | None) -> Tensor | None:
    """Which token sees which: bool [B, 1, T, T]; None where each sees all before it.

    Args:
        places: Positions and documents of the tokens.
        window: Tokens that a token sees, itself included; None: all.
    """
    positions, documents = places.positions, places.documents
    length = positions.shape[1]
    if documents is None and (window is None or window >= length):
        return None
    seen = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()[None]
    if window is not None:
        seen = seen & (positions[:, :, None] - positions[:, None, :] < window)
    if documents is not None:
        others = documents[:, None, :]
        seen = seen & ((documents[:, :, None] == others) | (others == SHARED))
    return seen[:, None]


class Rotation:
    """The cosines and sines of one `Rope`."""

    def __init__(self, rope: Rope, positions: int) -> None:
        cos, sin = rope.caches(positions)
        self.cos, self.sin = torch.from_numpy(cos), torch.from_numpy(sin)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of `positions` [B, T]: [B, 1, T, head_dim / 2] each."""
        if self.cos.device != positions.device:
            self.cos, self.sin = self.cos.to(positions.device), self.sin.to(positions.device)
        return self.cos[positions][:, None], self.sin[positions][:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool) -> Tensor:
    """Turn the pairs of dimensions of `x` [B, heads, T, head_dim]: neighbours, or dimensions half a head apart."""
    if interleaved:
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
