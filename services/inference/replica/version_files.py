"""A version's manifest and files, brought from the store into one folder."""

import asyncio
import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from pydantic import ValidationError

from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile, NotFound
from shared.storage.port import ArtifactStore


async def fetch_manifest(store: ArtifactStore, assignment: ReplicaAssignment) -> Manifest:
    """The manifest that the assignment names.

    Raises:
        NotFound: The store does not have it.
        CorruptFile: Its bytes do not hash to the assignment's digest, or it is not a manifest.
    """
    reference = f"{assignment.model}:{assignment.version}"
    data = await store.get_manifest(assignment.model, assignment.version)
    if data is None:
        raise NotFound(f"the store has no manifest of {reference}; was the version deleted?")
    found = hashlib.sha256(data).hexdigest()
    if found != assignment.digest:
        raise CorruptFile(f"the manifest of {reference} has the digest {found}, but {assignment.digest} was deployed")
    try:
        return Manifest.decode(data)
    except ValidationError as error:
        raise CorruptFile(f"the manifest of {reference} can't be read: {error}") from error


async def fetch_files(store: ArtifactStore, manifest: Manifest, digest: str, cache: Path) -> Path:
    """A folder with all files of the version under their manifest paths; replicas of one version share it.

    Blobs are hard-linked, or linked symbolically where the store's blobs and the cache are on different file systems:
    nothing is copied. A folder that is not whole (a blob was deleted, the disk was full) is built anew.

    Args:
        store: Where the blobs are.
        manifest: Names the files.
        digest: Of the manifest; names the folder.
        cache: The node's cache folder.

    Raises:
        NotFound: A blob is missing in the store.
        CorruptFile: A blob is not what its digest says.
        StorageFull: No room in the cache.
        OSError: The cache can't be written.
    """
    folder = cache / "versions" / digest
    if not await asyncio.to_thread(_is_whole, folder, manifest):
        blobs = [(file.path, await store.fetch_blob(file.digest, cache / "blobs")) for file in manifest.files]
        await asyncio.to_thread(_assemble, folder, manifest, blobs)
    return folder


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    try:
        return all((folder / file.path).stat().st_size == file.size for file in manifest.files)
    except FileNotFoundError:
        return False


def _assemble(folder: Path, manifest: Manifest, blobs: list[tuple[str, Path]]) -> None:
    """Build the folder beside its place and move it there at once, so a half-made one is never seen.

    One process at a time: another replica of this version may start now, too. The kernel frees the lock of a process
    that died.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_whole(folder, manifest):
            return
        shutil.rmtree(folder, ignore_errors=True)
        draft = folder.parent / f".{folder.name}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        for path, blob in blobs:
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(blob.resolve(), target)
        draft.rename(folder)


def _link(blob: Path, target: Path) -> None:
    try:
        os.link(blob, target)
    except OSError:  # another file system, or one without hard links
        target.symlink_to(blob)
