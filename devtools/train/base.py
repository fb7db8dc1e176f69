"""The model that a run starts from: a GGUF, a Hugging Face directory, or the files of a version with its manifest."""

from dataclasses import replace
from pathlib import Path

from devtools.convert.decoder_version import DecoderModel
from devtools.convert.from_gguf import read_gguf_model
from devtools.convert.from_hf import read_hf_model
from devtools.convert.hf.directory import is_model_directory
from devtools.convert.served.version import MANIFEST_FILE, is_version_folder, read_version
from shared.errors import InvalidInput, NotFound, UnsupportedFormat
from shared.storage.digest import file_digest


def open_base(path: Path) -> DecoderModel:
    """The checked parts of the model at `path`; its weights are read when they are used.

    Raises:
        NotFound: there is nothing.
        UnsupportedFormat: a mixture of experts.
        InvalidInput: neither a GGUF nor a directory with a config.json and weights; or one that LLMOS can't convert.
    """
    model = _open(path)
    if model.architecture.experts is not None:
        raise UnsupportedFormat(
            f"{path.name} is a mixture of experts, which can be served and not trained", param="base"
        )
    return model


def _open(path: Path) -> DecoderModel:
    if not path.exists():
        raise NotFound(
            f"there is no model {path}; expected a GGUF file, a Hugging Face directory or a version", param="base"
        )
    if path.is_file():
        return read_gguf_model(path)
    if is_version_folder(path):
        return replace(read_version(path), digest=file_digest(path / MANIFEST_FILE))
    if is_model_directory(path):
        return read_hf_model(path)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return read_gguf_model(ggufs[0])
    raise InvalidInput(
        f"{path} is not a model: it has neither config.json with weights nor exactly one GGUF", param="base"
    )
