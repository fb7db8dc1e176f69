"""The architecture that a Hugging Face `config.json` describes; defaults are those of transformers' classes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devtools.convert.decoder.architecture import (
    Activation,
    Architecture,
    Experts,
    LayerAttention,
    check_experts,
    check_sizes,
)
from devtools.convert.decoder.families import Family, find_family
from devtools.convert.fields import Fields
from devtools.convert.hf.rope import read_rope, scaled_context
from shared.errors import CorruptFile, UnsupportedFormat

_ACTIVATIONS = {
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_new": Activation.GELU_TANH,
}
_REFUSED = {
    "attn_logit_softcapping": "soft-capped attention scores are not supported",
    "final_logit_softcapping": "soft-capped logits are not supported",
    "clip_qkv": "clamped attention inputs are not supported",
    "use_bidirectional_attention": "attention in both directions is not supported",
    "quantization_config": "the weights are quantised by another library; take the model in its original precision",
}
"""Keys that change what a model computes, unless they are null, false or 0."""
_FULL, _LOCAL = "full_attention", "sliding_attention"


def read_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a directory with this `config.json`.

    Raises:
        UnsupportedFormat: a kind of model or a feature of it (a kind of rope scaling, experts, …) that no graph has.
        CorruptFile: a key is missing or its value is impossible.
    """
    name = config.get("model_type")
    family = find_family(name)
    keys = Fields({**family.config_defaults, **config})
    for key, complaint in _REFUSED.items():
        if keys.get(key):
            raise UnsupportedFormat(complaint, param="source")
    if keys.positive("partial_rotary_factor", 1.0) != 1:
        raise UnsupportedFormat("rotation of only a part of each head is not supported", param="source")
    sizes = _read_sizes(keys)
    scalar = keys.get("query_pre_attn_scalar")
    return Architecture(
        family=str(name),
        hidden_size=sizes.hidden,
        feed_forward_size=keys.count("intermediate_size"),
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        vocab_size=keys.count("vocab_size"),
        context_length=sizes.context_length,
        norm_epsilon=keys.positive("rms_norm_eps", 1e-6),
        rotary_interleaved=False,
        attention=_attention(keys, family, sizes),
        tied_head=keys.flag("tie_word_embeddings", default=False),
        qkv_bias=family.qkv_bias or keys.flag("attention_bias", default=False),
        qk_norm=family.qk_norm,
        qk_norm_whole=family.qk_norm_whole,
        sandwich_norms=family.sandwich_norms,
        activation=_activation(keys),
        embedding_scale=math.sqrt(sizes.hidden) if family.scaled_embedding else 1.0,
        attention_scale=None if scalar is None else keys.positive("query_pre_attn_scalar") ** -0.5,
        experts=_experts(keys, family, sizes.layers),
    )


def _experts(keys: Fields, family: Family, layers: int) -> Experts | None:
    mixture = family.mixture
    if mixture is None:
        if keys.get("num_local_experts") or keys.get("num_experts"):
            raise UnsupportedFormat(
                f"a mixture of experts in a {family.display_name} is not supported", param="source"
            )
        return None
    if keys.flag("use_sliding_window", default=False):
        raise UnsupportedFormat(f"a {family.display_name} with 'use_sliding_window' is not supported", param="source")
    normalised = mixture.normalised
    experts = Experts(
        count=keys.count(mixture.count_key),
        used=keys.count("num_experts_per_tok"),
        feed_forward_size=keys.count(mixture.size_key),
        normalised=keys.flag("norm_topk_prob", default=False) if normalised is None else normalised,
        shared_size=keys.count(mixture.shared_key) if mixture.shared_key else 0,
        dense_layers=_dense_layers(keys, layers),
    )
    check_experts(experts, count_key=mixture.count_key, used_key="num_experts_per_tok")
    return experts


def _dense_layers(keys: Fields, layers: int) -> frozenset[int]:
    """The layers with a plain MLP."""
    listed = keys.get("mlp_only_layers") or []
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        raise CorruptFile("'mlp_only_layers' is not a list of layers", param="source")
    step = keys.count("decoder_sparse_step", 1)
    return frozenset(layer for layer in range(layers) if layer in listed or (layer + 1) % step != 0)


@dataclass(frozen=True, slots=True)
class _Sizes:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int
    context_length: int


def _read_sizes(keys: Fields) -> _Sizes:
    layers, positions = keys.count("num_hidden_layers"), keys.count("max_position_embeddings")
    hidden, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    kv_heads = keys.count("num_key_value_heads", heads)
    head_dim = keys.count("head_dim", hidden // heads if hidden % heads == 0 else None)
    context_length = scaled_context(_rope_parameters(keys, _FULL), positions)
    check_sizes(layers=layers, context_length=context_length, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    return _Sizes(layers, hidden, heads, kv_heads, head_dim, positions, context_length)


def _activation(keys: Fields) -> Activation:
    name = keys.get("hidden_activation") or keys.get("hidden_act")
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UnsupportedFormat(
            f"the activation {name!r} is not supported; supported: {', '.join(_ACTIVATIONS)}", param="source"
        )
    return _ACTIVATIONS[name]


def _attention(keys: Fields, family: Family, sizes: _Sizes) -> tuple[LayerAttention, ...]:
    def rope(name: str, kind: str, base: float) -> Any:
        return read_rope(
            _rope_parameters(keys, kind),
            name,
            base=base,
            head_dim=sizes.head_dim,
            context_length=sizes.positions,
        )

    everywhere = local = rope("global", _FULL, keys.positive("rope_theta", 10_000.0, above=1))
    if family.full_attention_every:
        local = rope("local", _LOCAL, keys.positive("rope_local_base_freq", above=1))
    windowed = _windowed_layers(keys, family, sizes.layers)
    window = keys.count("sliding_window") if any(windowed) else None
    rotated = _rope_layers(keys, family, sizes.layers)
    return tuple(
        LayerAttention(
            (local if windowed[i] else everywhere) if rotated[i] else None, window if windowed[i] else None
        )
        for i in range(sizes.layers)
    )


def _rope_parameters(keys: Fields, kind: str) -> Fields:
    """The parameters of layers of a `kind`: transformers 5 may have some for each, 4 scales the full ones only."""
    parameters = keys.inside("rope_parameters")
    if parameters is not None:
        return parameters.inside(kind) or parameters
    return (keys.inside("rope_scaling") if kind == _FULL else None) or Fields({})


def _windowed_layers(keys: Fields, family: Family, layers: int) -> list[bool]:
    """For each layer whether it attends to a sliding window only."""
    kinds = keys.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise CorruptFile(f"'layer_types' does not list the kinds of {layers} layers", param="source")
        unknown = next((kind for kind in kinds if kind not in (_FULL, _LOCAL)), None)
        if unknown is not None:
            raise UnsupportedFormat(
                f"layers of type {unknown!r} are not supported; supported: {_FULL}, {_LOCAL}", param="source"
            )
        return [kind == _LOCAL for kind in kinds]
    if family.full_attention_every:
        period = keys.count("sliding_window_pattern", family.full_attention_every)
        return [(layer + 1) % period != 0 for layer in range(layers)]
    if keys.get("sliding_window") is None or not keys.flag("use_sliding_window", default=True):
        return [False] * layers
    if family.no_rope_every:
        return [not rotated for rotated in _rope_layers(keys, family, layers)]
    first = keys.count("max_window_layers") if keys.get("max_window_layers") else 0
    return [layer >= first for layer in range(layers)]


def _rope_layers(keys: Fields, family: Family, layers: int) -> list[bool]:
    """For each layer whether it has a rotary embedding."""
    listed = keys.get("no_rope_layers")
    if not family.no_rope_every:
        return [True] * layers
    if listed is None:
        period = keys.count("no_rope_layer_interval", family.no_rope_every)
        return [(layer + 1) % period != 0 for layer in range(layers)]
    if not isinstance(listed, list) or len(listed) != layers:
        raise CorruptFile(f"'no_rope_layers' does not list {layers} layers", param="source")
    return [bool(rotated) for rotated in listed]
