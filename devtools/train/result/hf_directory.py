"""A model as a Hugging Face directory: what `llmos model import` takes, and transformers, trl, llama.cpp and others.

Rows of queries and keys are brought into transformers' order, and Gemma's norms are stored less one, as there.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder_version import DecoderModel
from devtools.convert.hf.names import hf_name
from devtools.convert.model_text import ModelText
from devtools.train.model.peft import heads_of, to_halves
from devtools.train.tensors import write_tensors

_GEMMA = ("gemma3", "gemma3_text")


def write_hf_directory(
    folder: Path, model: DecoderModel, config: Mapping[str, Any], weights: Iterable[tuple[str, Tensor]]
) -> None:
    """Write config, tokenizer, generation config and weights (float32) into `folder`.

    Args:
        folder: Exists.
        model: Whose architecture and text it is.
        config: Of `hf_config`.
        weights: By GGUF's names without `.weight`.
    """
    ids = {"bos_token_id": model.text.bos_token_id, "eos_token_id": list(model.text.eos_token_ids)}
    _write_json(folder / "config.json", {**config, **ids})
    _write_json(folder / "generation_config.json", {**ids, **_sampling(model)})
    _write_text(folder, model.text)
    tensors: dict[str, Tensor | Callable[[], Tensor]] = {}
    for name, values in weights:
        stored = hf_name(name, four_norms=model.architecture.sandwich_norms)
        tensors[stored] = _in_their_order(name, values.detach().float(), model.architecture)
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})


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


def _in_their_order(name: str, values: Tensor, arch: Architecture) -> Tensor:
    if arch.family in _GEMMA and name.endswith("norm"):
        return values - 1
    heads = heads_of(arch, name)
    return values if heads is None else to_halves(values, heads)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
