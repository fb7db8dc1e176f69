"""Bring a model into the registry: convert, check, upload, make a version; with progress on every step."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from devtools.convert import convert_gguf
from llmos.client import Client
from shared.contracts.manifest import NAME_RULE, Manifest, is_name
from shared.contracts.registry import VersionInfo
from shared.errors import InvalidInput, UnsupportedFormat

Progress = Callable[[str, float], None]
"""Called with the name of a step and how much of it is done, 0 to 1."""


def import_model(
    client: Client, source: str, name: str, *, aliases: tuple[str, ...] = (), progress: Progress
) -> VersionInfo:
    """A new version of model `name` from a GGUF file.

    Nothing is visible before the last step, and the same source again answers the version that exists.
    """
    _check_name(name)
    path = _gguf(source)
    client.models()  # a wrong URL or key should be told before minutes of work
    with tempfile.TemporaryDirectory(prefix="llmos-import-") as folder:
        manifest = convert_gguf(path, Path(folder), progress=progress)
        upload(client, manifest, Path(folder), progress)
    return client.create_version(name, manifest, aliases)


def upload(client: Client, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Upload the files of a version that the store does not have yet."""
    done = 0

    def sent(count: int) -> None:
        progress("upload", (done + count) / manifest.size)

    for file in manifest.files:
        if not client.has_blob(file.digest):
            client.upload(file.digest, folder / file.path, sent)
        done += file.size
    progress("upload", 1.0)


def _check_name(name: str) -> None:
    if not is_name(name):
        raise InvalidInput(f"--name {name!r}: expected {NAME_RULE}", param="name")


def _gguf(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.exists():
        raise InvalidInput(f"{source}: no such file", param="source")
    if path.is_dir() or path.suffix.lower() != ".gguf":
        raise UnsupportedFormat(f"{source}: expected a .gguf file", param="source")
    return path
