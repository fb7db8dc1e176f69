"""The architecture that a GGUF's metadata describes.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what a file leaves out is as in llama.cpp
(`llama-model.cpp`, `load_hparams`).
"""

import math

import numpy as np

from devtools.convert.decoder.architecture import (
    Architecture,
    Experts,
    LayerAttention,
    check_experts,
    check_sizes,
)
from devtools.convert.decoder.families import Family, find_family
from devtools.convert.decoder.rope import Frequencies, Rope, Yarn, plain
from devtools.convert.fields import Fields
from devtools.convert.gguf.file import GgufFile
from devtools.convert.gguf.quants import dequantise
from shared.errors import CorruptFile, UnsupportedFormat

_REFUSED = {
    "attention.q_lora_rank": "multi-head latent attention (MLA) is not supported",
    "attention.kv_lora_rank": "multi-head latent attention (MLA) is not supported",
    "attn_logit_softcapping": "soft-capped attention scores are not supported",
    "final_logit_softcapping": "soft-capped logits are not supported",
    "attention.clamp_kqv": "clamped attention inputs are not supported",
    "attention.max_alibi_bias": "ALiBi positions are not supported",
    "attention.temperature_scale": "attention scaled by position is not supported",
    "logit_scale": "scaled logits are not supported",
    "residual_scale": "scaled residuals are not supported",
    "embedding_scale": "embeddings scaled by a number of the file are not supported",
    "nextn_predict_layers": "layers for multi-token prediction are not supported",
    "expert_group_count": "experts that are chosen in groups are not supported",
    "expert_weights_scale": "scaled weights of experts are not supported",
    "leading_dense_block_count": "a mixture of experts whose first layers have none is not supported",
    "pooling_type": "this is an embedding model, not one that generates",
}
"""Keys that change what a model computes, unless they are 0."""
_SOFTMAX = 1
"""llama.cpp's `LLAMA_EXPERT_GATING_FUNC_TYPE_SOFTMAX`."""


def read_architecture(gguf: GgufFile) -> Architecture:
    """The architecture of `gguf`.

    Raises:
        UnsupportedFormat: an architecture or a feature of it (a kind of rope scaling, experts, …) that no graph has.
        CorruptFile: a key is missing or its value is impossible.
    """
    name = gguf.metadata.get("general.architecture")
    family = find_family(name)
    keys = Fields(gguf.metadata, f"{name}.")
    for key, complaint in _REFUSED.items():
        if keys.get(key):
            raise UnsupportedFormat(complaint, param="source")
    if keys.get("attention.causal") is False:
        raise UnsupportedFormat("attention in both directions is not supported", param="source")
    layers, context_length = keys.count("block_count"), keys.count("context_length")
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    kv_heads = keys.count("attention.head_count_kv", heads)
    head_dim = keys.count("attention.key_length", hidden // heads if hidden % heads == 0 else None)
    check_sizes(layers=layers, context_length=context_length, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    if keys.count("attention.value_length", head_dim) != head_dim:
        raise UnsupportedFormat("values of another size than keys are not supported", param="source")
    if keys.count("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedFormat("rotation of only a part of each head is not supported", param="source")
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CorruptFile("the tensor 'token_embd.weight' is missing", param="source")
    feed_forward_size = keys.count("feed_forward_length")
    return Architecture(
        family=str(name),
        hidden_size=hidden,
        feed_forward_size=feed_forward_size,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=embedding.shape[0],
        context_length=context_length,
        norm_epsilon=keys.positive("attention.layer_norm_rms_epsilon"),
        rotary_interleaved=family.gguf_interleaved,
        attention=_attention(gguf, keys, family, layers, head_dim),
        tied_head="output.weight" not in gguf.tensors,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        qk_norm_whole=family.qk_norm_whole,
        sandwich_norms=family.sandwich_norms,
        activation=family.activation,
        embedding_scale=math.sqrt(hidden) if family.scaled_embedding else 1.0,
        attention_scale=_attention_scale(keys, family, layers, hidden / heads),
        experts=_experts(keys, str(name), family, feed_forward_size),
    )


def _experts(keys: Fields, name: str, family: Family, feed_forward_size: int) -> Experts | None:
    mixture = family.mixture
    if mixture is None and not keys.get("expert_count"):
        return None
    if name == "llama":  # what llama.cpp calls a Mixtral
        mixture = find_family("mixtral").mixture
    if mixture is None:
        raise UnsupportedFormat(f"a mixture of experts in a {family.display_name} is not supported", param="source")
    if keys.get("expert_gating_func") not in (None, 0, _SOFTMAX):
        raise UnsupportedFormat("experts that are not chosen by softmax are not supported", param="source")
    count, used = keys.count("expert_count"), keys.count("expert_used_count")
    size = feed_forward_size
    if mixture.size_key != "intermediate_size":  # others state the size of all experts of a token, if only one
        size = keys.count("expert_feed_forward_length", max(feed_forward_size // used, 1))
    experts = Experts(
        count=count,
        used=used,
        feed_forward_size=size,
        normalised=keys.flag("expert_weights_norm", default=mixture.gguf_normalised),
        shared_size=keys.count("expert_shared_feed_forward_length", feed_forward_size) if mixture.shared_key else 0,
    )
    check_experts(experts, count_key=f"{name}.expert_count", used_key=f"{name}.expert_used_count")
    return experts


def _attention_scale(keys: Fields, family: Family, layers: int, share: float) -> float | None:
    if keys.get("attention.scale"):
        return keys.positive("attention.scale")
    return share**-0.5 if layers == family.gguf_scale_layers else None


def _attention(
    gguf: GgufFile, keys: Fields, family: Family, layers: int, head_dim: int
) -> tuple[LayerAttention, ...]:
    everywhere = _rope(gguf, keys, head_dim)
    local = everywhere
    if family.full_attention_every:
        local = Rope("local", plain(keys.positive("rope.freq_base_swa", 10_000.0, above=1), head_dim))
    window = keys.count("attention.sliding_window") if keys.get("attention.sliding_window") else None
    if window and family.windowed_last_layers:
        raise UnsupportedFormat(
            f"a {family.display_name} in GGUF with a sliding window: the file does not say which layers have it;"
            " import the Hugging Face directory",
            param="source",
        )
    if family.full_attention_every and window is None:
        raise CorruptFile("the key 'gemma3.attention.sliding_window' is missing", param="source")
    windowed = _windowed_layers(keys, family, layers) if window else [False] * layers
    rotated = [not family.no_rope_every or (layer + 1) % family.no_rope_every != 0 for layer in range(layers)]
    return tuple(
        LayerAttention(
            (local if windowed[i] else everywhere) if rotated[i] else None, window if windowed[i] else None
        )
        for i in range(layers)
    )


def _windowed_layers(keys: Fields, family: Family, layers: int) -> list[bool]:
    """For each layer whether it attends to a sliding window only."""
    pattern = keys.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        if len(pattern) != layers or not all(isinstance(local, bool) for local in pattern):
            raise CorruptFile(
                f"'attention.sliding_window_pattern' does not say yes or no for {layers} layers", param="source"
            )
        return pattern
    period = family.full_attention_every if pattern is None else keys.count("attention.sliding_window_pattern")
    return [not period or (layer + 1) % period != 0 for layer in range(layers)]


def _rope(gguf: GgufFile, keys: Fields, head_dim: int) -> Rope:
    base = keys.positive("rope.freq_base", 10_000.0, above=1)
    kind = keys.get("rope.scaling.type")
    factor = keys.positive("rope.scaling.factor", keys.positive("rope.scale_linear", 1.0))
    if any(name.startswith("rope_factors_") for name in gguf.tensors):
        raise UnsupportedFormat("rope scaling of type 'longrope' is not supported", param="source")
    if kind is None:
        kind = "linear" if factor != 1 else "none"
    if kind not in ("none", "linear", "yarn"):
        raise UnsupportedFormat(
            f"rope scaling of type {kind!r} is not supported; supported: none, linear, yarn, Llama 3's factors",
            param="source",
        )
    if kind == "yarn":
        return _yarn(keys, base, factor, head_dim)
    frequencies = _divided_by_factors(gguf, plain(base, head_dim))
    return Rope("global", frequencies / factor if kind == "linear" else frequencies)


def _yarn(keys: Fields, base: float, factor: float, head_dim: int) -> Rope:
    extrapolation = keys.get("rope.scaling.yarn_ext_factor")
    if extrapolation not in (None, 1.0) or keys.get("rope.scaling.yarn_log_multiplier"):
        raise UnsupportedFormat(
            "YaRN with an extrapolation factor or a log multiplier is not supported", param="source"
        )
    yarn = Yarn(
        factor=factor,
        original=keys.count("rope.scaling.original_context_length"),
        fast=keys.positive("rope.scaling.yarn_beta_fast", 32.0),
        slow=keys.positive("rope.scaling.yarn_beta_slow", 1.0),
    )
    attention = keys.positive("rope.scaling.yarn_attn_factor", keys.positive("rope.scaling.attn_factor", 1.0))
    return Rope("global", yarn.scale(base, head_dim), yarn.magnitude * attention)


def _divided_by_factors(gguf: GgufFile, frequencies: Frequencies) -> Frequencies:
    """Divided by Llama 3's factor for each pair of dimensions, where the file has them."""
    factors = gguf.tensors.get("rope_freqs.weight")
    if factors is None:
        return frequencies
    if factors.shape != frequencies.shape:
        raise CorruptFile(
            f"'rope_freqs.weight' has shape {factors.shape}, expected {frequencies.shape}", param="source"
        )
    divisors = dequantise(factors)
    if not (divisors > 0).all():
        raise CorruptFile("'rope_freqs.weight' has factors that are not positive", param="source")
    return frequencies / divisors.astype(np.float64)
