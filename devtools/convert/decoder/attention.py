"""Rotary grouped-query attention over a cache that is updated in place."""

from devtools.convert.decoder.architecture import Architecture, LayerAttention
from devtools.convert.decoder.linear import Linear
from devtools.convert.decoder.norm import Norms
from devtools.convert.graph.nodes import GraphNodes
from operators import DOMAIN


class Attention:
    """Adds the attention of each layer to `nodes`."""

    def __init__(self, arch: Architecture, nodes: GraphNodes, linear: Linear, norms: Norms) -> None:
        self._arch = arch
        self._nodes = nodes
        self._linear = linear
        self._norms = norms
        self._caches: dict[str, tuple[str, str]] = {}
        self._split = ""

    def apply(self, x: str, layer: int) -> str:
        """The attention of `layer` on `x [B, S, H]`: `blk.{layer}.attn_out [B, S, H]`."""
        arch, name = self._arch, f"blk.{layer}"
        qkv = self._linear.apply(x, [f"{name}.attn_q", f"{name}.attn_k", f"{name}.attn_v"], f"{name}.qkv")
        inputs = self._normed_heads(qkv, name) if arch.qk_norm else [qkv, "", ""]
        mixed = self._nodes.add(
            "CachedAttention",
            [
                *inputs, f"past_key.{layer}", f"past_value.{layer}", "seqlens_k",
                *self._rotation(arch.attention[layer]), "slots",
            ],
            f"{name}.attention",
            more_outputs=(f"present_key.{layer}", f"present_value.{layer}"),
            domain=DOMAIN,
            **self._attributes(arch.attention[layer]),
        )  # fmt: skip
        return self._linear.apply(mixed, [f"{name}.attn_output"], f"{name}.attn_out")

    def _normed_heads(self, qkv: str, name: str) -> list[str]:
        """Query, key and value [B, S, heads * head_dim], query and key normed, each head or whole."""
        arch = self._arch
        query_norms, key_norms = (1, 1) if arch.qk_norm_whole else (arch.heads, arch.kv_heads)
        query, key, value = (f"{name}.{part}" for part in ("query", "key", "value"))
        sizes = [arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim, arch.kv_heads * arch.head_dim]
        if not self._split:
            self._split = self._nodes.constant("qkv_sizes", sizes)
        self._nodes.add("Split", [qkv, self._split], query, more_outputs=(key, value), axis=-1)
        return [
            self._norms.apply_per_head(query, f"{name}.attn_q_norm", f"{query}.normed", heads=query_norms),
            self._norms.apply_per_head(key, f"{name}.attn_k_norm", f"{key}.normed", heads=key_norms),
            value,
        ]

    def _rotation(self, attention: LayerAttention) -> list[str]:
        """The cosines and sines that turn the heads, as inputs; left out for a layer that does not turn them."""
        rope = attention.rope
        if rope is None:
            return ["", ""]
        if rope.name not in self._caches:
            cos, sin = rope.caches(self._arch.context_length)
            self._caches[rope.name] = (
                self._nodes.weight(f"rope.{rope.name}.cos", cos),
                self._nodes.weight(f"rope.{rope.name}.sin", sin),
            )
        return [*self._caches[rope.name]]

    def _attributes(self, attention: LayerAttention) -> dict[str, int | float]:
        arch = self._arch
        scale = arch.attention_scale
        return {
            "num_heads": arch.heads,
            "kv_num_heads": arch.kv_heads,
            "head_size": arch.head_dim,
            "rotary_interleaved": int(arch.rotary_interleaved),
            "local_window_size": attention.window or -1,
            "scale": arch.head_dim**-0.5 if scale is None else scale,
        }
