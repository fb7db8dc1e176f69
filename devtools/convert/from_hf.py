"""Converts a Hugging Face directory into the files of a version and their manifest. Needs no torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devtools.convert.decoder_version import DecoderModel, Progress, files_digest, no_progress
from devtools.convert.hf.architecture import read_config
from devtools.convert.hf.directory import read_json, read_tensors, read_text, weight_files
from devtools.convert.hf.source import SafetensorsSource
from devtools.convert.hf.text import read_model_text, sampling_defaults
from devtools.convert.quantise.version import write_quantised_version
from devtools.convert.source_folder import check_source_folder
from devtools.quantization import Quantize
from shared.contracts.manifest import Manifest
from shared.errors import CorruptFile

_GEMMA = ("gemma3", "gemma3_text")
"""Store norms less one."""
_READ = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_LICENSE = re.compile(r"^license:\s*[\"']?([\w.+-]{1,80})", re.MULTILINE)


def read_hf_model(folder: Path, *, name: str = "", progress: Progress = no_progress) -> DecoderModel:
    """The checked parts of the model in `folder`, its weights as floats.

    Args:
        folder: As transformers' `save_pretrained` writes it.
        name: What the version is said to come from; the folder's name if empty.
        progress: Called with the stage `read`.

    Raises:
        CorruptFile: a file is damaged, missing, or contradicts another.
        InvalidInput: a file leads out of the directory.
        UnsupportedFormat: an architecture, a tensor type or a tokenizer that LLMOS cannot convert.
    """
    progress("read", 0.0)
    check_source_folder(folder)
    config = _language_config(read_json(folder / "config.json"))
    architecture = read_config(config)
    tensors = read_tensors(folder)
    gemma = architecture.family in _GEMMA
    model = DecoderModel(
        source=name or folder.resolve().name,
        digest=hf_digest(folder, progress),
        architecture=architecture,
        weights=SafetensorsSource(
            tensors,
            four_norms=architecture.sandwich_norms,
            norms_from_zero=gemma,
            tied_head=architecture.tied_head,
        ),
        text=read_model_text(folder, config),
        license=_license(folder),
        defaults=sampling_defaults(folder),
    )
    model.check()
    progress("read", 1.0)
    return model


def hf_digest(folder: Path, progress: Progress = no_progress) -> str:
    """SHA-256 of the list of the files that are read of a model in `folder`."""
    small = [folder / name for name in _READ if (folder / name).exists()]
    return files_digest([*small, *weight_files(folder)], progress)


def convert_hf(
    folder: Path, destination: Path, *, quantize: Quantize = "auto", name: str = "", progress: Progress = no_progress
) -> Manifest:
    """Write the version that the Hugging Face directory `folder` describes into the folder `destination`.

    On any failure `destination` is as it was. `progress` is called with the stages read, measure, build, check,
    compare and finish (measure and compare only where it quantises).

    Raises:
        CorruptFile: a file is damaged, missing, or contradicts another.
        UnsupportedFormat: a kind of model that LLMOS cannot convert, or one that quantising would spoil.
        StorageFull: no room for the files.
    """
    model = read_hf_model(folder, name=name, progress=progress)
    return write_quantised_version(model, destination, quantize, progress=progress)


def _language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the language model inside one that can also see."""
    inner = config.get("text_config")
    if inner is None:
        return config
    if not isinstance(inner, dict):
        raise CorruptFile("config.json: 'text_config' is not an object", param="source")
    outer = {key: value for key, value in config.items() if key not in ("text_config", "vision_config")}
    return {**outer, **inner}


def _license(folder: Path) -> str | None:
    """`license:` of the model card's front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front, found = read_text(card).split("\n---", 1)[0], None
    if front.startswith("---"):
        found = _LICENSE.search(front)
    return found[1] if found else None
