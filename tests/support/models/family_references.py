"""Plain numpy forward passes of each family, written from its publication and transformers' names alone.

They share nothing with the converter: no `Architecture`, no canonical names. `golden_logits.npz` holds what
transformers computes for the same weights (`make_golden_logits`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.support.models.tiny_families import Array, head_dim

Weights = Mapping[str, Array]
Config = Mapping[str, Any]


def reference_logits(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Token ids [S] to logits float32 [S, vocab_size]."""
    family = {"llama": llama, "mistral": mistral, "smollm3": smollm3, "qwen2": qwen2, "qwen3": qwen3}
    if config["model_type"] in ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe"):
        family[config["model_type"]] = mixture
    forward = family.get(config["model_type"], gemma3)
    return np.asarray(forward(config, {k: v.astype(np.float64) for k, v in weights.items()}, ids), np.float32)


def llama(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Llama 2 and 3: every layer sees every token before it."""
    return _decoder(config, weights, ids, attention=lambda x, i: _attention(config, weights, x, i))


def mistral(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Every layer sees a window."""
    window = config["sliding_window"]
    return _decoder(config, weights, ids, attention=lambda x, i: _attention(config, weights, x, i, window=window))


def smollm3(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Every fourth layer does not turn its heads."""

    def attention(x: Array, layer: int) -> Array:
        return _attention(config, weights, x, layer, turned=layer % 4 != 3)

    return _decoder(config, weights, ids, attention=attention)


def qwen2(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Biases on query, key and value; the last layers may see a window."""

    def attention(x: Array, layer: int) -> Array:
        windowed = config.get("use_sliding_window", False) and layer >= config["max_window_layers"]
        return _attention(config, weights, x, layer, window=config["sliding_window"] if windowed else None)

    return _decoder(config, weights, ids, attention=attention)


def qwen3(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Heads of query and key are normed (`_attention` does it where the weights are)."""
    return llama(config, weights, ids)


def mixture(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE: a token goes through some of a layer's MLPs."""

    def feed_forward(x: Array, layer: int) -> Array:
        if layer in config.get("mlp_only_layers", ()):
            return _mlp(weights, x, f"model.layers.{layer}.mlp")
        return np.stack([_experts(config, weights, token, layer) for token in x])

    return _decoder(
        config, weights, ids, attention=lambda x, i: _attention(config, weights, x, i), feed_forward=feed_forward
    )


def _experts(config: Config, weights: Weights, token: Array, layer: int) -> Array:
    """One token [H] through its experts."""
    mixtral = config["model_type"] == "mixtral"
    name = f"model.layers.{layer}.{'block_sparse_moe' if mixtral else 'mlp'}"
    scores = weights[f"{name}.gate.weight"] @ token
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    best = sorted(range(len(shares)), key=lambda expert: -shares[expert])[: config["num_experts_per_tok"]]
    total = sum(shares[expert] for expert in best) if mixtral or config.get("norm_topk_prob") else 1.0
    parts = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    out = sum(shares[i] / total * _mlp(weights, token, f"{name}.experts.{i}", parts) for i in best)
    if f"{name}.shared_expert_gate.weight" in weights:
        score = weights[f"{name}.shared_expert_gate.weight"][0] @ token
        out = out + _mlp(weights, token, f"{name}.shared_expert") / (1 + math.exp(-score))
    return np.asarray(out)


def _mlp(
    weights: Weights, x: Array, name: str, parts: Sequence[str] = ("gate_proj", "up_proj", "down_proj")
) -> Array:
    gate, up = (_linear(weights, x, f"{name}.{part}") for part in parts[:2])
    return _linear(weights, gate / (1 + np.exp(-gate)) * up, f"{name}.{parts[2]}")


def gemma3(config: Config, weights: Weights, ids: Sequence[int]) -> Array:
    """Scaled embeddings, norms stored less one and after each block too, five windowed layers to one that is not."""
    weights = {name: values + 1 if "norm" in name else values for name, values in weights.items()}
    x = weights["model.embed_tokens.weight"][list(ids)] * math.sqrt(config["hidden_size"])
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        if layer % 6 == 5:
            update = _attention(config, weights, _normed(config, weights, x, f"{name}.input_layernorm"), layer)
        else:
            local = {**config, "rope_theta": config["rope_local_base_freq"], "rope_scaling": None}
            normed = _normed(config, weights, x, f"{name}.input_layernorm")
            update = _attention(local, weights, normed, layer, window=config["sliding_window"])
        x = x + _normed(config, weights, update, f"{name}.post_attention_layernorm")
        normed = _normed(config, weights, x, f"{name}.pre_feedforward_layernorm")
        gate, up = (_linear(weights, normed, f"{name}.mlp.{part}_proj") for part in ("gate", "up"))
        gate = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        update = _linear(weights, gate * up, f"{name}.mlp.down_proj")
        x = x + _normed(config, weights, update, f"{name}.post_feedforward_layernorm")
    return _head(config, weights, x)


def _decoder(
    config: Config,
    weights: Weights,
    ids: Sequence[int],
    *,
    attention: Callable[[Array, int], Array],
    feed_forward: Callable[[Array, int], Array] | None = None,
) -> Array:
    x = weights["model.embed_tokens.weight"][list(ids)]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        x = x + attention(_normed(config, weights, x, f"{name}.input_layernorm"), layer)
        normed = _normed(config, weights, x, f"{name}.post_attention_layernorm")
        x = x + (feed_forward(normed, layer) if feed_forward else _mlp(weights, normed, f"{name}.mlp"))
    return _head(config, weights, x)


def _attention(
    config: Config, weights: Weights, x: Array, layer: int, *, window: int | None = None, turned: bool = True
) -> Array:
    name, size = f"model.layers.{layer}.self_attn", head_dim(config)
    query, key, value = (_linear(weights, x, f"{name}.{part}_proj") for part in "qkv")
    if config["model_type"] == "olmoe":  # all heads as one
        query = _normed(config, weights, query, f"{name}.q_norm")
        key = _normed(config, weights, key, f"{name}.k_norm")
    query, key, value = (part.reshape(len(x), -1, size) for part in (query, key, value))
    if f"{name}.q_norm.weight" in weights and config["model_type"] != "olmoe":
        query, key = (
            _normed(config, weights, query, f"{name}.q_norm"),
            _normed(config, weights, key, f"{name}.k_norm"),
        )
    if turned:
        query, key = _turned(config, query), _turned(config, key)
    scale = config.get("query_pre_attn_scalar", size) ** -0.5
    out = np.zeros_like(query)
    for position in range(len(x)):
        first = 0 if window is None else max(0, position - window + 1)
        for head in range(query.shape[1]):
            source = head * key.shape[1] // query.shape[1]
            scores = key[first : position + 1, source] @ query[position, head] * scale
            shares = np.exp(scores - scores.max())
            out[position, head] = shares / shares.sum() @ value[first : position + 1, source]
    return _linear(weights, out.reshape(len(x), -1), f"{name}.o_proj")


def _turned(config: Config, x: Array) -> Array:
    """`x [S, heads, size]` rotated: dimension i with i + size / 2, as complex numbers."""
    speeds, magnitude = _speeds(config, x.shape[-1])
    half = x.shape[-1] // 2
    turns = magnitude * np.exp(1j * np.arange(len(x))[:, None, None] * speeds)
    turned = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _speeds(config: Config, size: int) -> tuple[np.ndarray[Any, Any], float]:
    """Radians per position of each pair, and what YaRN multiplies the rotation by."""
    base, scaling = config["rope_theta"], config.get("rope_scaling") or {}
    speeds = np.array([base ** (-2 * i / size) for i in range(size // 2)])
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind is None:
        return speeds, 1.0
    factor = scaling["factor"]
    if kind == "linear":
        return speeds / factor, 1.0
    original = scaling["original_max_position_embeddings"]
    if kind == "llama3":
        return np.array([_llama3_speed(speed, scaling) for speed in speeds]), 1.0

    def pair_that_turns(times: float) -> float:
        return size * math.log(original / (times * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(pair_that_turns(32)), 0), min(math.ceil(pair_that_turns(1)), size - 1)
    slow = np.clip([(i - low) / max(high - low, 0.001) for i in range(size // 2)], 0, 1)
    return speeds / factor * slow + speeds * (1 - slow), 0.1 * math.log(factor) + 1


def _llama3_speed(speed: float, scaling: Mapping[str, Any]) -> float:
    length, original = 2 * math.pi / speed, scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    if length < original / high:
        return speed
    if length > original / low:
        return speed / factor
    smooth = (original / length - low) / (high - low)
    return float((1 - smooth) * speed / factor + smooth * speed)


def _head(config: Config, weights: Weights, x: Array) -> Array:
    name = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    return _normed(config, weights, x, "model.norm") @ weights[f"{name}.weight"].T


def _normed(config: Config, weights: Weights, x: Array, name: str) -> Array:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config["rms_norm_eps"]) * weights[f"{name}.weight"]


def _linear(weights: Weights, x: Array, name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)
