"""An architecture as the `config.json` of a Hugging Face directory: the way back of `devtools.convert.hf`."""

from typing import Any

from devtools.convert.decoder.architecture import Activation, Architecture
from devtools.convert.decoder.rope import Rope
from devtools.convert.source import WeightSource
from devtools.train.result.hf_rope import rope_parameters
from shared.errors import UnsupportedFormat

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
_ACTIVATIONS = {Activation.SILU: "silu", Activation.GELU_TANH: "gelu_pytorch_tanh"}


def hf_config(arch: Architecture, source: WeightSource) -> dict[str, Any]:
    """The keys that transformers' classes and `llmos model import` read.

    Raises:
        UnsupportedFormat: something of `arch` has no key.
    """
    model_type = _model_type(arch)
    config: dict[str, Any] = {
        "architectures": [_CLASSES[model_type]],
        "model_type": model_type,
        "hidden_size": arch.hidden_size,
        "intermediate_size": arch.feed_forward_size,
        "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads,
        "head_dim": arch.head_dim,
        "vocab_size": arch.vocab_size,
        "max_position_embeddings": arch.context_length,
        "rms_norm_eps": arch.norm_epsilon,
        "tie_word_embeddings": arch.tied_head,
        "torch_dtype": "float32",
    }
    config["hidden_activation" if arch.sandwich_norms else "hidden_act"] = _ACTIVATIONS[arch.activation]
    if model_type != "qwen2":  # where biases are a fact of the family
        config["attention_bias"] = source.has("blk.0.attn_q.bias")
    if model_type == "llama":
        config["mlp_bias"] = source.has("blk.0.ffn_gate.bias")
    if arch.sandwich_norms:
        scale = arch.attention_scale
        config["query_pre_attn_scalar"] = arch.head_dim if scale is None else _short(scale**-2)
    return config | _windows(arch, model_type) | _ropes(arch, model_type)


def _short(value: float) -> float:
    return round(value) if abs(value - round(value)) < 1e-6 * value else value


def _model_type(arch: Architecture) -> str:
    name = "gemma3_text" if arch.family == "gemma3" else arch.family
    if name == "llama" and any(attention.window for attention in arch.attention):
        name = "mistral"  # llama.cpp calls both `llama`
    if name not in _CLASSES:
        raise UnsupportedFormat(f"a {arch.family} can't be written as a Hugging Face directory", param="result")
    return name


def _windows(arch: Architecture, model_type: str) -> dict[str, Any]:
    windows = {attention.window for attention in arch.attention if attention.window is not None}
    if len(windows) > 1:
        raise UnsupportedFormat("windows of different sizes have no key in config.json", param="result")
    if not windows:
        return {"sliding_window": None} if model_type == "mistral" else {}
    windowed = [attention.window is not None for attention in arch.attention]
    config: dict[str, Any] = {
        "sliding_window": windows.pop(),
        "layer_types": ["sliding_attention" if local else "full_attention" for local in windowed],
    }
    if model_type in ("qwen2", "qwen3"):
        config |= {"use_sliding_window": True, "max_window_layers": windowed.index(True)}
    if model_type == "smollm3":
        config["use_sliding_window"] = True
    return config


def _ropes(arch: Architecture, model_type: str) -> dict[str, Any]:
    ropes: dict[str, Rope] = {
        attention.rope.name: attention.rope for attention in arch.attention if attention.rope is not None
    }
    config: dict[str, Any] = {}
    for name, rope in ropes.items():
        base, scaling = rope_parameters(rope, arch.context_length)
        if name == "local":
            if scaling is not None:
                raise UnsupportedFormat("a scaled local rotation has no key in config.json", param="result")
            config["rope_local_base_freq"] = base
        else:
            config |= {"rope_theta": base, "rope_scaling": scaling}
    if model_type == "smollm3":
        config["no_rope_layers"] = [int(attention.rope is not None) for attention in arch.attention]
    return config
