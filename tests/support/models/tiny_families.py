"""A tiny model of each family: the `config.json` that transformers would write, and random weights by its names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
IDS = [1, 70, 14, 90, 33, 5, 20, 64, 42, 18, 7, 66, 2, 51, 88, 30]

_BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama2": _BASE | {"model_type": "llama", "num_key_value_heads": 4},
    "llama3": _BASE | {"model_type": "llama", "rope_theta": 500_000.0, "rope_scaling": _LLAMA3},
    "llama_linear": _BASE | {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama_biases": _BASE
    | {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "mistral": _BASE | {"model_type": "mistral", "sliding_window": 5, "head_dim": 32},
    "smollm3": _BASE
    | {"model_type": "smollm3", "num_hidden_layers": 4, "tie_word_embeddings": True, "pad_token_id": 0},
    "qwen2": _BASE | {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2_yarn": _BASE | {"model_type": "qwen2", "rope_scaling": _YARN},
    "qwen2_windows": _BASE
    | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": _BASE | {"model_type": "qwen3", "head_dim": 32, "attention_bias": False},
    "gemma3": _BASE
    | {
        "model_type": "gemma3_text", "num_hidden_layers": 6, "num_key_value_heads": 1, "head_dim": 32,
        "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0, "sliding_window": 5,
        "query_pre_attn_scalar": 24, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    },
}  # fmt: skip

_EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": _BASE
    | {"model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2_moe": _BASE | _EXPERTS | {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 64},
    "qwen2_moe_normed": _BASE
    | _EXPERTS
    | {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 64, "norm_topk_prob": True},
    "qwen3_moe": _BASE | _EXPERTS | {"model_type": "qwen3_moe", "head_dim": 32, "norm_topk_prob": True},
    "qwen3_moe_some": _BASE
    | _EXPERTS
    | {"model_type": "qwen3_moe", "head_dim": 32, "mlp_only_layers": [0], "decoder_sparse_step": 1},
    "olmoe": _BASE | {"model_type": "olmoe", "num_experts": 8, "num_experts_per_tok": 3},
}
"""Mixtures of experts."""


def head_dim(config: Mapping[str, Any]) -> int:
    """Dimensions of a head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def random_weights(config: Mapping[str, Any], *, seed: int = 0) -> dict[str, Array]:
    """Every tensor of the model by transformers' name, scaled so that activations keep their size."""
    random = np.random.default_rng(seed)
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * head_dim(config)
    keys = config["num_key_value_heads"] * head_dim(config)
    gemma = config["model_type"] == "gemma3_text"

    def matrix(rows: int, columns: int, size: float = 1) -> Array:
        return (size * random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    def norm(length: int) -> Array:
        return (random.uniform(0.5, 1.5, length) - (1 if gemma else 0)).astype(np.float32)

    def bias(length: int) -> Array:
        return random.standard_normal(length).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": matrix(vocabulary, hidden, 1 if gemma else 8),
        "model.norm.weight": norm(hidden),
    }
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = matrix(vocabulary, hidden)
    norms = ["input_layernorm", "post_attention_layernorm"]
    if gemma:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    attention = {
        "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
    }  # fmt: skip
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        weights |= {f"{name}.{part}.weight": norm(hidden) for part in norms}
        for part, (rows, columns) in (attention | _feed_forward(config, layer)).items():
            weights[f"{name}.{part}.weight"] = matrix(rows, columns)
            if _has_bias(config, part):
                weights[f"{name}.{part}.bias"] = bias(rows)
        if config["model_type"] in ("qwen3", "qwen3_moe", "gemma3_text"):
            weights |= {f"{name}.self_attn.{part}.weight": norm(head_dim(config)) for part in ("q_norm", "k_norm")}
        if config["model_type"] == "olmoe":
            weights |= {
                f"{name}.self_attn.q_norm.weight": norm(queries),
                f"{name}.self_attn.k_norm.weight": norm(keys),
            }
    return weights


def _feed_forward(config: Mapping[str, Any], layer: int) -> dict[str, tuple[int, int]]:
    """The matrices of a layer's MLP, or of its mixture of experts."""
    hidden = config["hidden_size"]

    def mlp(name: str, wide: int) -> dict[str, tuple[int, int]]:
        inside = {f"{name}.{part}_proj": (wide, hidden) for part in ("gate", "up")}
        return inside | {f"{name}.down_proj": (hidden, wide)}

    count = config.get("num_experts") or config.get("num_local_experts") or 0
    if not count or layer in config.get("mlp_only_layers", ()):
        return mlp("mlp", config["intermediate_size"])
    size = config.get("moe_intermediate_size", config["intermediate_size"])
    if config["model_type"] == "mixtral":
        name, parts = "block_sparse_moe", {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    else:
        name, parts = "mlp", {}
    found = {f"{name}.gate": (count, hidden)}
    for number in range(count):
        for full, shape in mlp("", size).items():
            part = full.removeprefix(".")
            found[f"{name}.experts.{number}.{parts.get(part, part)}"] = shape
    if "shared_expert_intermediate_size" in config:
        found |= mlp("mlp.shared_expert", config["shared_expert_intermediate_size"])
        found["mlp.shared_expert_gate"] = (1, hidden)
    return found


def _has_bias(config: Mapping[str, Any], part: str) -> bool:
    if config["model_type"] in ("qwen2", "qwen2_moe"):
        return part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    return bool(config.get("attention_bias" if part.startswith("self_attn") else "mlp_bias"))
