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
from shared.storage.port import CHUNK, ArtifactStore

ManifestT = TypeVar("ManifestT", bound=FileList)


async def fetch_version(
    store: ArtifactStore, version: Input, contract: type[ManifestT], folder: Path, cache: Path
) -> tuple[Path, ManifestT]:
    """The files of a version in a folder below `folder`, and its manifest. What is there already is not read again.

    Raises:
        NotFound: The store does not have it.
        CorruptFile: The store has something else under its name.
    """
    data = await store.get_manifest(version.name, version.version, version.kind)
    if data is None:
        raise NotFound(f"the store has no manifest of {version.kind} {version.reference}; was it deleted?")
    if hashlib.sha256(data).hexdigest() != version.digest:
        raise CorruptFile(f"{version.kind} {version.reference} in the store is not the one that the job was made for")
    try:
        manifest = contract.decode(data)
    except ValidationError as error:
        raise CorruptFile(f"the manifest of {version.reference} can't be read: {error}") from error
    target = folder / f"{version.kind}-{version.name}-{version.version}"
    for file in manifest.files:
        await _place(store, file, target / file.path, cache)
    return target, manifest


async def fetch_checkpoint(store: ArtifactStore, checkpoint: Checkpoint, folder: Path, cache: Path) -> None:
    """Place the files of a checkpoint in `folder`, unless they are there."""
    for file in checkpoint.files:
        await _place(store, file, folder / file.path, cache)


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
        digest = await asyncio.to_thread(_digest, path)
        size = await store.put_blob(digest, _chunks(path), size=path.stat().st_size)
        files.append(ManifestFile(path=str(path.relative_to(root)), digest=digest, size=size))
    return tuple(files)


async def _place(store: ArtifactStore, file: ManifestFile, target: Path, cache: Path) -> None:
    if await asyncio.to_thread(_size, target) == file.size:
        return
    source = await store.fetch_blob(file.digest, cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.draft")
    # A copy, not a link: a tool may write to its inputs, and a blob must never change.
    await asyncio.to_thread(shutil.copyfile, source, draft)
    draft.rename(target)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
