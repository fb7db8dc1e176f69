"""Converts a GGUF into the files of a version and their manifest."""

from dataclasses import replace
from pathlib import Path

from devtools.convert.decoder_version import (
    DecoderModel,
    Progress,
    files_digest,
    no_progress,
    write_version,
)
from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import GgufFile
from devtools.convert.gguf.quants import DENSE, check_supported
from devtools.convert.gguf.source import GgufSource
from devtools.convert.gguf.split import read_parts
from devtools.convert.gguf.tokenizer import read_text
from devtools.convert.hostile_text import try_hostile_texts
from devtools.convert.quantise.version import write_quantised_version
from devtools.convert.sampling_defaults import read_defaults
from devtools.quantization import Quantize
from shared.contracts.manifest import Manifest
from shared.errors import InvalidInput
from shared.storage.digest import file_digest

_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""GGUF key -> name of the manifest's default."""


def read_gguf_model(source: Path, progress: Progress = no_progress) -> DecoderModel:
    """The checked parts of the GGUF `source`, its weights as they are in the file; of a split one any part is taken.

    Raises:
        CorruptFile: `source` is damaged or truncated.
        UnsupportedFormat: a kind of file, architecture, tensor or tokenizer that LLMOS cannot convert.
    """
    gguf, parts = read_parts(source)
    architecture = read_architecture(gguf)
    for tensor in gguf.tensors.values():
        check_supported(tensor)
    license_name = gguf.metadata.get("general.license")
    model = DecoderModel(
        source=parts[0].name,
        digest=gguf_digest(parts, progress),
        architecture=architecture,
        weights=GgufSource(gguf),
        text=read_text(gguf.metadata),
        license=license_name if isinstance(license_name, str) else None,
        defaults=_sampling_defaults(gguf),
    )
    model.check()
    try_hostile_texts(model.text.tokenizer)
    return model


def gguf_digest(parts: tuple[Path, ...], progress: Progress = no_progress) -> str:
    """SHA-256 of a GGUF in one file, else of the list of its parts."""
    if len(parts) > 1:
        return files_digest(parts, progress)
    size = parts[0].stat().st_size
    return file_digest(parts[0], lambda done: progress("read", 0.99 * done / size))


def convert_gguf(
    source: Path, destination: Path, *, quantize: Quantize = "auto", name: str = "", progress: Progress = no_progress
) -> Manifest:
    """Write the version that the GGUF `source` describes into the folder `destination`.

    `name` is what the version is said to come from; the file's name if empty.

    Weights stay exactly as they are in the file (`auto` and `none`); int4 and int8 are for files of floats. On any
    failure `destination` is as it was. `progress` is called with the stages read, build, check and finish, and where
    it quantises with measure and compare.

    Raises:
        CorruptFile: `source` is damaged or truncated.
        UnsupportedFormat: a kind of file, architecture, tensor or tokenizer that LLMOS cannot convert.
        InvalidInput: int4 or int8 is asked for, and the file is quantised already.
        StorageFull: no room for the files.
    """
    progress("read", 0.0)
    model = read_gguf_model(source, progress)
    model = replace(model, source=name or model.source)
    progress("read", 1.0)
    if quantize in ("auto", "none"):
        return write_version(model, destination, progress=progress)
    kind = next((kind for kind in map(model.weights.type_name, model.weights.names()) if kind not in DENSE), None)
    if kind is not None:
        raise InvalidInput(
            f"{source.name} is quantised already (it has {kind} weights), and rounding twice loses more than once:"
            " import it as it is, with --quantize auto",
            param="quantize",
        )
    return write_quantised_version(model, destination, quantize, progress=progress)


def _sampling_defaults(gguf: GgufFile) -> dict[str, float | int | str]:
    return read_defaults(gguf.metadata, _SAMPLING, where="metadata")
