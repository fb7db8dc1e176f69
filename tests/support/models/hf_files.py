"""Hugging Face directories with the weights of a GGUF: the same model in another form."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from devtools.convert.gguf.file import GgufFile, read_gguf
from devtools.convert.gguf.quants import dequantise
from devtools.convert.gguf.tokenizer import build_tokenizer

_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ENDS = {
    "token_embd": "model.embed_tokens.weight",
    "output_norm": "model.norm.weight",
    "output": "lm_head.weight",
}
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def hf_config(gguf: GgufFile, **changes: Any) -> dict[str, Any]:
    """The config.json of a GGUF Llama; None takes a key out."""
    keys = gguf.metadata
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": keys["llama.embedding_length"],
        "intermediate_size": keys["llama.feed_forward_length"],
        "num_hidden_layers": keys["llama.block_count"],
        "num_attention_heads": keys["llama.attention.head_count"],
        "num_key_value_heads": keys["llama.attention.head_count_kv"],
        "max_position_embeddings": keys["llama.context_length"],
        "rms_norm_eps": keys["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": keys["llama.rope.freq_base"],
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0],
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "bos_token_id": keys["tokenizer.ggml.bos_token_id"],
        "eos_token_id": keys["tokenizer.ggml.eos_token_id"],
    } | changes
    return {key: value for key, value in config.items() if value is not None}


def hf_weights(gguf: GgufFile) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of a GGUF Llama under transformers' names, float32, heads laid out as transformers does."""
    heads = {"attn_q": gguf.metadata["llama.attention.head_count"],
             "attn_k": gguf.metadata["llama.attention.head_count_kv"]}  # fmt: skip
    weights = {}
    for full, tensor in gguf.tensors.items():
        values, name = dequantise(tensor), full.removesuffix(".weight")
        if name in _ENDS:
            weights[_ENDS[name]] = values
            continue
        _, layer, part = name.split(".")
        if part in heads:  # neighbouring rows form a pair; transformers pairs each with the one half a head away
            pairs = values.reshape(heads[part], -1, 2, values.shape[1])
            values = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
        weights[f"model.layers.{layer}.{_PARTS[part]}.weight"] = values
    return weights


def write_hf(
    folder: Path,
    gguf_path: Path,
    *,
    dtype: str = "F32",
    shards: int = 1,
    config: Mapping[str, Any] = {},
    files: Mapping[str, Any] = {},
    weights: Mapping[str, np.ndarray[Any, Any]] = {},
) -> Path:
    """Write the model of a GGUF Llama as a Hugging Face directory.

    `config` changes config.json; `files` are further JSON files; `weights` are added, or replace others.
    """
    gguf = read_gguf(gguf_path)
    folder.mkdir(parents=True)
    documents = {
        "config.json": hf_config(gguf, **config),
        "tokenizer_config.json": {
            "eos_token": gguf.metadata["tokenizer.ggml.tokens"][gguf.metadata["tokenizer.ggml.eos_token_id"]],
            "chat_template": gguf.metadata["tokenizer.chat_template"],
        },
        **files,
    }
    for name, document in documents.items():
        if document is not None:
            (folder / name).write_text(json.dumps(document))
    (folder / "tokenizer.json").write_text(build_tokenizer(gguf.metadata).to_str())
    tensors = {name: values.astype(DTYPES[dtype]) for name, values in (hf_weights(gguf) | dict(weights)).items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = sorted(tensors)
    weight_map = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {tensor: tensors[tensor] for tensor in names[number::shards]}
        save_file(part, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def rescaled(weights: Mapping[str, np.ndarray[Any, Any]], *, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Other weights of the same function, for quantisers: those of a dequantised GGUF lie on its grid.

    The columns of every matrix are scaled by random factors, which the norm before it (or the rows of the matrix
    before it) takes back.
    """
    random = np.random.default_rng(seed)
    changed = dict(weights)

    def move(giver: str, takers: tuple[str, ...], prefix: str) -> None:
        rows = f"{prefix}.{giver}.weight"
        factors = np.exp(random.uniform(-0.2, 0.2, len(changed[rows]))).astype(np.float32)
        changed[rows] = (changed[rows].T / factors).T
        for taker in takers:
            changed[f"{prefix}.{taker}.weight"] = changed[f"{prefix}.{taker}.weight"] * factors

    layer = 0
    while f"model.layers.{layer}.input_layernorm.weight" in weights:
        prefix = f"model.layers.{layer}"
        move("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), prefix)
        move("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"), prefix)
        move("mlp.up_proj", ("mlp.down_proj",), prefix)
        layer += 1
    return changed
