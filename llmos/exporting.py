"""Get a version out of the registry: its files as they are, or as a Hugging Face directory."""

import shutil
import tempfile
from pathlib import Path
from typing import Literal

from llmos.client import Client
from llmos.progress import Progress
from shared.contracts.registry import ModelVersion
from shared.errors import InvalidInput, UnsupportedFormat
from shared.storage.scratch import scratch_folder

Format = Literal["version", "hf"]
MANIFEST_FILE = "manifest.json"
_WORK_PREFIX = "llmos-export-"


def export_model(client: Client, reference: str, folder: Path, form: Format, progress: Progress) -> ModelVersion:
    """Write a version to `folder`, which must be new or empty.

    Args:
        client: Of the gateway.
        reference: name, name:3 or name@alias.
        folder: For the files.
        form: `version`: the files that are served, with the manifest. `hf`: config, tokenizer and weights as float32,
            which `llmos model import` and transformers read.
        progress: Called with the steps.

    Raises:
        InvalidInput: The folder has files.
        UnsupportedFormat: An encoder as `hf`.
    """
    version = client.models.version(reference)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is not an empty folder; name another", param="folder")
    if form == "version":
        _download(client, version, folder, progress)
        return version
    if not version.manifest.generates:
        raise UnsupportedFormat(
            f"{version.reference} is no decoder alone; --format hf writes decoders. --format version has its files as"
            " they are",
            param="format",
        )
    from devtools.train.result.hf_directory import export_version  # noqa: PLC0415  # other commands start without it

    with scratch_folder(Path(tempfile.gettempdir()), _WORK_PREFIX) as work:
        _download(client, version, work / "version", progress)
        progress("write", 0.0)
        if folder.exists():
            folder.rmdir()
        export_version(work / "version", folder)
        progress("write", 1.0)
    return version


def _download(client: Client, version: ModelVersion, folder: Path, progress: Progress) -> None:
    """Write all files, or leave the folder empty."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        client.models.download(version.manifest, folder, progress)
        (folder / MANIFEST_FILE).write_bytes(version.manifest.encode())
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
