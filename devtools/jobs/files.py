"""Versions and checkpoints between the store and a job's folder."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shared.contracts.job import Checkpoint, Input
from shared.contracts.manifest import FileList, ManifestFile
from shared.errors import CorruptFile, NotFound
from shared.storage.digest import file_digest
from shared.storage.port import CHUNK, ArtifactStore

ManifestT = TypeVar("ManifestT", bound=FileList)


MANIFEST_FILE = "manifest.json"
"""Beside the files of a version that was fetched."""


async def read_manifest(store: ArtifactStore, version: Input, contract: type[ManifestT]) -> ManifestT:
    """The manifest of a version.

    Raises:
        NotFound: The store does not have it.
        CorruptFile: The store has something else under its name.
    """
    return _decoded(await _manifest_bytes(store, version), version, contract)


async def fetch_version(
    store: ArtifactStore, version: Input, contract: type[ManifestT], folder: Path, cache: Path
) -> tuple[Path, ManifestT]:
    """The files of a version with its manifest in a folder below `folder`. What is there already is not read again.

    Raises:
        NotFound: The store does not have it.
        CorruptFile: The store has something else under its name.
    """
    data = await _manifest_bytes(store, version)
    manifest = _decoded(data, version, contract)
    target = folder / f"{version.kind}-{version.name}-{version.version}"
    for file in manifest.files:
        await fetch_file(store, file, target / file.path, cache)
    target.mkdir(parents=True, exist_ok=True)
    (target / MANIFEST_FILE).write_bytes(data)
    return target, manifest


async def _manifest_bytes(store: ArtifactStore, version: Input) -> bytes:
    data = await store.get_manifest(version.name, version.version, version.kind)
    if data is None:
        raise NotFound(f"the store has no manifest of {version.kind} {version.reference}; was it deleted?")
    if hashlib.sha256(data).hexdigest() != version.digest:
        raise CorruptFile(f"{version.kind} {version.reference} in the store is not the one that the job was made for")
    return data


def _decoded(data: bytes, version: Input, contract: type[ManifestT]) -> ManifestT:
    try:
        return contract.decode(data)
    except ValidationError as error:
        raise CorruptFile(f"the manifest of {version.reference} can't be read: {error}") from error


async def fetch_checkpoint(store: ArtifactStore, checkpoint: Checkpoint, folder: Path, cache: Path) -> None:
    """Place the files of a checkpoint in `folder`, unless they are there."""
    for file in checkpoint.files:
        await fetch_file(store, file, folder / file.path, cache)


async def upload_folder(store: ArtifactStore, folder: Path, *, below: Path | None = None) -> tuple[ManifestFile, ...]:
    """Put all files below `folder` into the store.

    Args:
        store: Takes them; files that it has already are not sent again.
        folder: With the files.
        below: What the paths are relative to; `folder` if None.
    """
    root = below or folder
    files = []
    for path in await asyncio.to_thread(_files, folder):
        digest = await asyncio.to_thread(file_digest, path)
        size = await store.put_blob(digest, _chunks(path), size=path.stat().st_size)
        files.append(ManifestFile(path=str(path.relative_to(root)), digest=digest, size=size))
    return tuple(files)


async def fetch_file(store: ArtifactStore, file: ManifestFile, target: Path, cache: Path) -> None:
    """Place a file at `target`, unless it is there."""
    if await asyncio.to_thread(_size, target) == file.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.draft")
    for fresh in (False, True):
        source = await store.fetch_blob(file.digest, cache, fresh=fresh)
        # A copy, not a link: a tool may write to its inputs, and a blob must never change.
        await asyncio.to_thread(shutil.copyfile, source, draft)
        if await asyncio.to_thread(file_digest, draft) == file.digest:
            draft.rename(target)
            return
    draft.unlink()
    raise CorruptFile(f"{file.path} changes while it is copied from {cache}: the disk of this node is damaged")


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None
