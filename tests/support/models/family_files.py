"""Writes the models of `tiny_families` as the files that people have, and builds graphs from those."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.graph import KV_TYPE, GraphBuilder
from devtools.convert.decoder.tensors import check_tensors
from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import read_gguf
from devtools.convert.gguf.source import GgufSource
from devtools.convert.graph.weight_file import WeightFile
from devtools.convert.hf.architecture import read_config
from devtools.convert.hf.directory import read_tensors
from devtools.convert.hf.source import SafetensorsSource
from devtools.convert.source import WeightSource
from shared.contracts.manifest import DecoderSpec
from tests.support.models.tiny_families import Array, head_dim

_GGUF_NAMES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE,
    "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
    "olmoe": gguf.MODEL_ARCH.OLMOE,
}
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+)\.weight")
_PERMUTED = (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.SMOLLM3)


def write_directory(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Path:
    """`config.json` and `model.safetensors`, as `save_pretrained` writes them."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(dict(weights), folder / "model.safetensors")
    return folder


def write_gguf(
    path: Path, config: Mapping[str, Any], weights: Mapping[str, Array], quantization: Type = Type.F32, *,
    metadata: Mapping[str, int] = {}, types: Mapping[str, Type] = {}, stacked: bool = True,
) -> Path:  # fmt: skip
    """What llama.cpp's `convert_hf_to_gguf.py` makes of the model; matrices in `quantization`.

    `metadata` changes what it says of experts, `types` those of tensors by a part of their name. Matrices of experts
    are one tensor each, or (`stacked` false) as they were before that: one of each expert.
    """
    arch = _GGUF_NAMES[config["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    _add_scaling(writer, config)
    for key, value in (_expert_metadata(config) | dict(metadata)).items():
        writer.add_uint32(f"{gguf.MODEL_ARCH_NAMES[arch]}.{key}", value)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for name, values in _stacked(weights).items():
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, name
        kind = next((kind for part, kind in types.items() if part in stored), quantization)
        if values.ndim == 3 and not stacked:
            for number, matrix in enumerate(values):
                alone = stored.replace("_exps", f".{number}")
                here = next((kind for part, kind in types.items() if part in alone), kind)
                writer.add_tensor(alone, *_stored(config, arch, name, matrix, here))
        else:
            writer.add_tensor(stored, *_stored(config, arch, name, values, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _stacked(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Matrices of experts as one array, under the name without the expert's number."""
    found: dict[str, Any] = {}
    for name, values in weights.items():
        expert = _EXPERT.fullmatch(name)
        if expert is None:
            found[name] = values
        else:
            found.setdefault(f"{expert[1]}.{expert[3]}.weight", []).append(values)
    return {name: np.stack(values) if isinstance(values, list) else values for name, values in found.items()}


def _expert_metadata(config: Mapping[str, Any]) -> dict[str, int]:
    keys = {
        "num_experts": "expert_count", "num_local_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
        "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    }  # fmt: skip
    return {stored: config[key] for key, stored in keys.items() if key in config}


def _add_scaling(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))


def llama3_factors(config: Mapping[str, Any]) -> Array:
    """What `convert_hf_to_gguf.py` writes for Llama 3's rope scaling: a divisor for each pair's frequency."""
    scaling, size = config["rope_scaling"], head_dim(config)
    length = 2 * np.pi * config["rope_theta"] ** (np.arange(0, size, 2) / size)
    original, low, high = (
        scaling[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    smooth = (original / length - low) / (high - low)
    between = 1 / ((1 - smooth) / scaling["factor"] + smooth)
    factors = np.where(length > original / low, scaling["factor"], between)
    return np.where(length < original / high, 1, factors).astype(np.float32)


def _stored(
    config: Mapping[str, Any], arch: gguf.MODEL_ARCH, name: str, values: Array, quantization: Type
) -> tuple[Array, None, Type]:
    """Arguments of `add_tensor` after the name."""
    if "norm" in name and config["model_type"] == "gemma3_text":
        values = values + np.float32(1)
    if arch in _PERMUTED and any(part in name for part in ("q_proj", "k_proj")):
        heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    kind = quantization if is_quantised(name, values) else Type.F32
    return gguf.quants.quantize(values, kind), None, kind


def is_quantised(name: str, values: Array) -> bool:
    """Whether llama.cpp quantises the tensor: matrices, but for routers of experts."""
    return values.ndim > 1 and not name.endswith(("mlp.gate.weight", "moe.gate.weight", "expert_gate.weight"))


def quantised_weights(weights: Mapping[str, Array], quantization: Type) -> dict[str, Array]:
    """The weights with the values that `write_gguf` stores."""

    def rounded(values: Array) -> Array:
        return gguf.quants.dequantize(gguf.quants.quantize(values, quantization), quantization).reshape(values.shape)

    return {name: rounded(values) if is_quantised(name, values) else values for name, values in weights.items()}


def open_directory(folder: Path) -> tuple[Architecture, WeightSource]:
    """The architecture and the checked weights of a directory."""
    arch = read_config(json.loads((folder / "config.json").read_text()))
    source = SafetensorsSource(
        read_tensors(folder),
        four_norms=arch.sandwich_norms,
        norms_from_zero=arch.sandwich_norms,
        tied_head=arch.tied_head,
    )
    check_tensors(source, arch)
    return arch, source


def open_gguf(path: Path) -> tuple[Architecture, WeightSource]:
    """The architecture and the checked weights of a GGUF."""
    file = read_gguf(path)
    arch, source = read_architecture(file), GgufSource(file)
    check_tensors(source, arch)
    return arch, source


def build(folder: Path, arch: Architecture, source: WeightSource) -> DecoderSpec:
    """Write the graph and its weights to `folder`; returns its shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    with WeightFile(folder / "model.onnx.data") as weights:
        model = GraphBuilder(arch, source, weights).build(lambda _layer: None)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return DecoderSpec(
        layers=arch.layers,
        heads=arch.heads,
        kv_heads=arch.kv_heads,
        head_dim=arch.head_dim,
        hidden_size=arch.hidden_size,
        vocab_size=arch.vocab_size,
        context_length=arch.context_length,
        kv_type=KV_TYPE,
    )
