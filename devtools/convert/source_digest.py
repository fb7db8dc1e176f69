"""The digest of a source, by which an import finds the version that it became before."""

from pathlib import Path

from devtools.convert.encoder.version import encoder_digest, is_encoder_directory
from devtools.convert.from_gguf import gguf_digest
from devtools.convert.from_hf import hf_digest
from devtools.convert.gguf.split import read_parts
from devtools.convert.source_folder import check_source_folder


def source_digest(source: Path) -> str:
    """`Lineage.source_digest` of the version that `source`, a GGUF or a model's directory, is converted to.

    Raises:
        CorruptFile, NotFound, UnsupportedFormat, InvalidInput: As the conversion would.
    """
    if source.is_file():
        return gguf_digest(read_parts(source)[1])
    check_source_folder(source)
    return encoder_digest(source) if is_encoder_directory(source) else hf_digest(source)
