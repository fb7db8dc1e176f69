"""A checkpoint of a model with an encoder and a decoder, checked before any library reads it."""

from pathlib import Path

from devtools.convert import is_model_directory
from devtools.convert.decoder_version import Progress, files_digest, no_progress
from devtools.convert.hf.directory import read_json, read_optional_json, read_tensors, weight_files
from devtools.convert.source_folder import check_source_folder
from shared.errors import UnsupportedFormat

SUPPORTED = ("t5", "mt5", "bart", "marian", "whisper")
"""`model_type` of config.json."""
_CODE = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def check_checkpoint(source: Path) -> None:
    """Raise unless `source` can be exported.

    Raises:
        UnsupportedFormat: An architecture that is not exported, code that comes with the model, or weights that are
            no safetensors.
        CorruptFile, NotFound: A file is damaged or missing.
        InvalidInput: A file leads out of the directory.
    """
    if not source.is_dir() or not is_model_directory(source):
        raise UnsupportedFormat(
            f"--with optimum takes a Hugging Face directory (config.json and safetensors); {source} is none",
            param="source",
        )
    check_source_folder(source)
    kind = read_json(source / "config.json").get("model_type")
    if kind not in SUPPORTED:
        raise UnsupportedFormat(
            f"config.json: model_type {str(kind)[:80]!r} is not exported through optimum; supported are"
            f" {', '.join(SUPPORTED)}",
            param="source",
        )
    for name in _CODE:
        if "auto_map" in read_optional_json(source / name):
            raise UnsupportedFormat(
                f"{name}: auto_map names code that comes with the model, which is never run; take a checkpoint of"
                " transformers' own classes",
                param="source",
            )
    read_tensors(source)  # damaged files, shards that are missing, pickles


def checkpoint_digest(source: Path, progress: Progress = no_progress) -> str:
    """SHA-256 of all that a version is made of: weights, and the JSON and tokenizer files beside them."""
    small = [path for kind in ("*.json", "*.spm", "*.model") for path in source.glob(kind)]
    return files_digest({*small, *weight_files(source)}, progress)
