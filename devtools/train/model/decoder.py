"""The decoder of an `Architecture`, for every family: what `devtools.convert` builds as a graph, to be trained.

Modules are named as the tensors of a GGUF, so `blk.3.attn_q.weight` is the same thing here, in a file and in a graph.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from devtools.convert.decoder.architecture import Activation, Architecture
from devtools.convert.source import WeightSource
from devtools.train.model.attention import Places, Rotation, attend, attention_mask, attention_scale, rotate
from devtools.train.model.linear import Linear

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""Of each layer."""


class Norm(nn.Module):
    """`x` over its root mean square, times a weight (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, source: WeightSource, name: str, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(source.vector(name).copy()))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] to the same shape."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class Layer(nn.Module):
    """Pre-norm attention and a pre-norm gated MLP around a residual stream."""

    def __init__(self, arch: Architecture, source: WeightSource, number: int, *, keep_codes: bool) -> None:
        super().__init__()
        self.arch, self.dropout = arch, 0.0
        for name in MATRICES:
            self.add_module(name, Linear.load(source, f"blk.{number}.{name}", keep_codes=keep_codes))
        norms = ["attn_norm", "ffn_norm"]
        norms += ["attn_q_norm", "attn_k_norm"] if arch.qk_norm else []
        norms += ["post_attention_norm", "post_ffw_norm"] if arch.sandwich_norms else []
        for name in norms:
            self.add_module(name, Norm(source, f"blk.{number}.{name}", arch.norm_epsilon))

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """The residual stream [B, T, H] after the layer."""
        update = self._attention(self.attn_norm(x), rotation, mask)
        if self.arch.sandwich_norms:
            update = self.post_attention_norm(update)
        x = x + F.dropout(update, self.dropout, self.training)
        update = self._feed_forward(self.ffn_norm(x))
        if self.arch.sandwich_norms:
            update = self.post_ffw_norm(update)
        return x + F.dropout(update, self.dropout, self.training)

    def _attention(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        arch = self.arch
        query, key, value = (
            layer(x).unflatten(-1, (-1, arch.head_dim)).transpose(1, 2)
            for layer in (self.attn_q, self.attn_k, self.attn_v)
        )  # [B, heads, T, head_dim]
        if arch.qk_norm:
            query, key = self.attn_q_norm(query), self.attn_k_norm(key)
        if rotation is not None:
            query = rotate(query, *rotation, interleaved=arch.rotary_interleaved)
            key = rotate(key, *rotation, interleaved=arch.rotary_interleaved)
        with torch.autocast(x.device.type, enabled=False):  # for rows of this length, faster than in bfloat16
            mixed = attend(query.float(), key.float(), value.float(), scale=attention_scale(arch), mask=mask)
        return self.attn_output(mixed.transpose(1, 2).flatten(-2))

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate = self.ffn_gate(x)
        active = F.silu(gate) if self.arch.activation is Activation.SILU else F.gelu(gate, approximate="tanh")
        return self.ffn_down(active * self.ffn_up(x))


class Decoder(nn.Module):
    """Token ids to hidden states to logits.

    Args:
        arch: What to compute.
        source: Its weights.
        max_len: Tokens of the longest row.
        keep_codes: Whether matrices stay as they are stored, frozen.
    """

    def __init__(self, arch: Architecture, source: WeightSource, *, max_len: int, keep_codes: bool = False) -> None:
        super().__init__()
        self.arch, self.recompute = arch, False
        self.token_embd = Linear.load(source, "token_embd", keep_codes=keep_codes)
        self.blk = nn.ModuleList(Layer(arch, source, number, keep_codes=keep_codes) for number in range(arch.layers))
        self.output_norm = Norm(source, "output_norm", arch.norm_epsilon)
        self.output = None if arch.tied_head else Linear.load(source, "output", keep_codes=keep_codes)
        ropes = {attention.rope.name: attention.rope for attention in arch.attention if attention.rope is not None}
        self._rotations = {name: Rotation(rope, max_len) for name, rope in ropes.items()}

    def embed(self, ids: Tensor) -> Tensor:
        """Token `ids [B, T]` to float32 [B, T, H]."""
        return self.token_embd.rows(ids) * self.arch.embedding_scale

    def hidden(self, embedded: Tensor, places: Places) -> Tensor:
        """Embedded tokens [B, T, H] to normed hidden states [B, T, H]."""
        rotations = {name: rotation.at(places.positions) for name, rotation in self._rotations.items()}
        windows = {attention.window for attention in self.arch.attention}
        masks = {window: attention_mask(places, window) for window in windows}
        x = embedded
        for layer, attention in zip(self.blk, self.arch.attention, strict=True):
            rotation = None if attention.rope is None else rotations[attention.rope.name]
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotation, masks[attention.window], use_reentrant=False)
            else:
                x = layer(x, rotation, masks[attention.window])
        return self.output_norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., H] to logits [..., vocab_size]."""
        return (self.token_embd if self.output is None else self.output)(hidden)

    def forward(self, ids: Tensor) -> Tensor:
        """Token `ids [B, T]`, each row one text, to logits float32 [B, T, vocab_size]."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        return self.head(self.hidden(self.embed(ids), Places(positions)))

    def set_dropout(self, share: float) -> None:
        """Drop this share of the output of each attention and MLP while training."""
        for layer in self.blk:
            layer.dropout = share
