"""A model as a Hugging Face directory: what `llmos model import` takes, and transformers, trl, llama.cpp and others.

Rows of queries and keys are brought into transformers' order, and Gemma's norms are stored less one, as there. Needs
no PyTorch: a version is exported on machines that can't train.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder_version import DecoderModel
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.hf.names import hf_name
from devtools.convert.model_text import ModelText
from devtools.convert.served.version import read_version
from devtools.train.result.folders import whole_folder
from devtools.train.result.hf_config import hf_config

_GEMMA = ("gemma3", "gemma3_text")


def export_version(version: Path, destination: Path) -> None:
    """Write the decoder whose files and manifest are in `version` to `destination`, which must not exist.

    Raises:
        UnsupportedFormat: It is no decoder, or its rotation has no form in a config.json.
        CorruptFile: A file is damaged or missing.
        StorageFull: No room.
    """
    model = read_version(version)
    config = hf_config(model.architecture, model.weights)
    with whole_folder(destination) as staging:
        write_hf_directory(
            staging, model, config, ((name, model.weights.dequantise(name)) for name in model.weights.names())
        )


def write_hf_directory(
    folder: Path, model: DecoderModel, config: Mapping[str, Any], weights: Iterable[tuple[str, Any]]
) -> None:
    """Write config, tokenizer, generation config and weights (float32) into `folder`.

    Args:
        folder: Exists.
        model: Whose architecture and text it is.
        config: Of `hf_config`.
        weights: By GGUF's names without `.weight`: arrays, or tensors of PyTorch.
    """
    ids = {"bos_token_id": model.text.bos_token_id, "eos_token_id": list(model.text.eos_token_ids)}
    _write_json(folder / "config.json", {**config, **ids})
    _write_json(folder / "generation_config.json", {**ids, **_sampling(model)})
    _write_text(folder, model.text)
    arrays: dict[str, Floats] = {}
    for name, values in weights:
        stored = hf_name(name, four_norms=model.architecture.sandwich_norms)
        floats = values if isinstance(values, np.ndarray) else values.detach().float().cpu().numpy()
        arrays[stored] = _in_their_order(name, floats, model.architecture)
    write_arrays(folder / "model.safetensors", arrays)


def _sampling(model: DecoderModel) -> dict[str, Any]:
    numbers = {name: value for name, value in model.defaults.items() if not isinstance(value, str)}
    return {**numbers, "do_sample": True} if numbers else {}


def _write_text(folder: Path, text: ModelText) -> None:
    (folder / "tokenizer.json").write_text(text.tokenizer.to_str(), encoding="utf-8")
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": text.add_bos_token,
        "eos_token": text.tokenizer.id_to_token(text.eos_token_ids[0]),
        "clean_up_tokenization_spaces": False,
    }
    if text.bos_token_id is not None:
        settings["bos_token"] = text.tokenizer.id_to_token(text.bos_token_id)
    _write_json(folder / "tokenizer_config.json", settings)
    if text.chat_template is not None:
        (folder / "chat_template.jinja").write_text(text.chat_template, encoding="utf-8")


def _in_their_order(name: str, values: Floats, arch: Architecture) -> Floats:
    if arch.family in _GEMMA and name.endswith("norm"):
        return values - np.float32(1)
    part = name.removesuffix(".bias").rsplit(".", 1)[-1]
    heads = {"attn_q": arch.heads, "attn_k": arch.kv_heads}.get(part)
    if heads is None or not arch.rotary_interleaved:
        return values
    # From neighbours that form a pair to halves of a head that do.
    return values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def write_arrays(path: Path, arrays: Mapping[str, Floats]) -> None:
    """Float32 arrays as safetensors, in the order of their names: equal arrays give equal bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(arrays):
        begin, end = end, end + 4 * arrays[name].size
        header[name] = {"dtype": "F32", "shape": list(arrays[name].shape), "data_offsets": [begin, end]}
    described = json.dumps(header, separators=(",", ":")).encode()
    described += b" " * (-len(described) % 8)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for name in sorted(arrays):
            file.write(np.ascontiguousarray(arrays[name], dtype="<f4").data)
        file.flush()
        os.fsync(file.fileno())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
