"""Small Llama GGUFs with random weights, in any tensor type that `gguf` can quantise to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

HIDDEN, WIDE, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CONTEXT = 64, 96, 4, 2, 16, 2, 128


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte, in the order of the bytes (`bytes_to_unicode` of its encoder.py)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    stand_ins = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]


MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("1", "2"), ("Ġ", "Ġ")]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*CONTROL, *byte_alphabet(), *("".join(pair) for pair in MERGES), "<tool>"]
VOCABULARY = len(TOKENS)


def llama_metadata() -> dict[str, Any]:
    """The metadata of the model; a test changes what it is about. None leaves a key out."""
    return {
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": WIDE,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": HEAD_DIM,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3] * len(CONTROL) + [1] * (256 + len(MERGES)) + [4],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in MERGES],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages[0].content }}",
        "general.license": "apache-2.0",
    }


def llama_weights(*, tied: bool = True, seed: int = 0) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Random float32 weights, scaled so that activations keep their size from layer to layer."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    def norm() -> np.ndarray[Any, np.dtype[np.float32]]:
        return random.uniform(0.5, 1.5, HIDDEN).astype(np.float32)

    weights = {"token_embd.weight": matrix(VOCABULARY, HIDDEN) * 8, "output_norm.weight": norm()}
    for layer in range(LAYERS):
        weights |= {
            f"blk.{layer}.attn_norm.weight": norm(),
            f"blk.{layer}.attn_q.weight": matrix(HEADS * HEAD_DIM, HIDDEN),
            f"blk.{layer}.attn_k.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            f"blk.{layer}.attn_v.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            f"blk.{layer}.attn_output.weight": matrix(HIDDEN, HEADS * HEAD_DIM),
            f"blk.{layer}.ffn_norm.weight": norm(),
            f"blk.{layer}.ffn_gate.weight": matrix(WIDE, HIDDEN),
            f"blk.{layer}.ffn_up.weight": matrix(WIDE, HIDDEN),
            f"blk.{layer}.ffn_down.weight": matrix(HIDDEN, WIDE),
        }
    return weights if tied else weights | {"output.weight": matrix(VOCABULARY, HIDDEN)}


def mixtral(*, experts: int, used: int) -> dict[str, Any]:
    """Arguments of `write_llama` for a mixture of experts in the place of each MLP."""
    random = np.random.default_rng(1)

    def stack(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return (random.standard_normal((experts, rows, columns)) / np.sqrt(columns)).astype(np.float32)

    extra = {}
    for layer in range(LAYERS):
        extra |= {
            f"blk.{layer}.ffn_gate_inp.weight": 2 * stack(HIDDEN, 1)[..., 0],
            f"blk.{layer}.ffn_gate_exps.weight": stack(WIDE, HIDDEN),
            f"blk.{layer}.ffn_up_exps.weight": stack(WIDE, HIDDEN),
            f"blk.{layer}.ffn_down_exps.weight": stack(HIDDEN, WIDE),
        }
    return {
        "metadata": {"llama.expert_count": experts, "llama.expert_used_count": used},
        "extra": extra,
        "types": {"ffn_gate_inp": Type.F32},
        "leave_out": tuple(f".ffn_{part}.weight" for part in ("gate", "up", "down")),
    }


def write_llama(
    path: Path,
    quantization: Type = Type.F32,
    *,
    types: Mapping[str, Type] = {},
    tied: bool = True,
    metadata: Mapping[str, Any] = {},
    extra: Mapping[str, np.ndarray[Any, Any]] = {},
    leave_out: str | tuple[str, ...] = (),
    architecture: str = "llama",
    split_tensors: int = 0,
) -> Path:
    """Write a GGUF of `quantization`, or of `types` by a part of a tensor's name; uint8 is written raw.

    With `split_tensors`, parts of so many tensors at most are written beside `path`, which does not exist then.
    """
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split_tensors)
    for key, value in (llama_metadata() | dict(metadata)).items():
        _add(writer, key, value)
    for name, values in (llama_weights(tied=tied) | dict(extra)).items():
        if leave_out and name.endswith(leave_out):
            continue
        kind = next((kind for part, kind in types.items() if part in name), quantization)
        if values.ndim == 1:
            kind = Type.F32
        raw = values if values.dtype == np.uint8 else gguf.quants.quantize(values, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
