"""A version's manifest and files, from the store in one folder."""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
from pydantic import ValidationError

from services.inference.agent.damage import Report, damaged_files
from shared.contracts.manifest import FOLDER_MANIFEST, Manifest, ManifestFile
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile, NotFound
from shared.storage.port import ArtifactStore

_log = structlog.get_logger("llmos.agent")


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


async def _unreported(_: ManifestFile) -> None:
    """Nobody is told."""


@asynccontextmanager
async def version_folder(
    store: ArtifactStore, manifest: Manifest, digest: str, cache: Path, report: Report = _unreported
) -> AsyncIterator[Path]:
    """A folder with the manifest and all files of the version, kept while inside; the node's replicas share it.

    The files are links to the node's own copies of the blobs. Each file is read and its digest checked; a damaged one
    is dropped and fetched again, once. An incomplete folder (the disk was full) is built again. Folders that no
    process uses are removed first, so that the cache may evict their blobs.

    Args:
        store: Where the blobs are.
        manifest: Names the files.
        digest: Of the manifest; names the folder.
        cache: The node's cache folder.
        report: Is told of each damaged file.

    Raises:
        NotFound: A blob is missing in the store.
        CorruptFile: A file does not have its digest, though it was fetched again; it is named.
        StorageFull: The cache is full.
        OSError: The cache can't be written.
    """
    folder = cache / "versions" / digest
    await asyncio.to_thread(_remove_unused, folder)
    blobs = {file.path: await _fetch(store, file, cache, report) for file in manifest.files}
    lock = await asyncio.to_thread(_assemble, folder, manifest, blobs)
    try:
        if damaged := await asyncio.to_thread(damaged_files, folder, manifest.files):
            for file in damaged:
                await report(file)
                blobs[file.path] = await _fetch(store, file, cache, report, fresh=True)
            damaged_folder, lock = lock, await asyncio.to_thread(_assemble, folder, manifest, blobs, anew=True)
            os.close(damaged_folder)
            if still := await asyncio.to_thread(damaged_files, folder, damaged):
                raise CorruptFile(
                    f"file {still[0].path!r} in {folder} was fetched again and still does not have its digest; check"
                    " the disk of this node"
                )
        yield folder
    finally:
        os.close(lock)


async def _fetch(
    store: ArtifactStore, file: ManifestFile, cache: Path, report: Report, *, fresh: bool = False
) -> Path:
    """The node's copy of a blob; one that arrives damaged is fetched again, unless it is `fresh`."""
    try:
        return await store.fetch_blob(file.digest, cache / "blobs", fresh=fresh)
    except CorruptFile as error:
        if fresh:
            raise _damaged(file, error) from error
    await report(file)
    return await _fetch(store, file, cache, report, fresh=True)


def _damaged(file: ManifestFile, error: CorruptFile) -> CorruptFile:
    return CorruptFile(f"file {file.path!r} is damaged in the store; import the model again ({error.message})")


@contextmanager
def _exclusive(versions: Path) -> Iterator[None]:
    """One process at a time changes the folders. The kernel frees the lock of a process that died."""
    versions.mkdir(parents=True, exist_ok=True)
    with (versions / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_unused(keep: Path) -> None:
    with _exclusive(keep.parent):
        for folder in keep.parent.iterdir():
            if folder.is_dir() and folder != keep:
                fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                    _log.info("version_folder.removed", digest=folder.name)
                except BlockingIOError:
                    pass  # a replica uses it
                finally:
                    os.close(fd)


def _assemble(folder: Path, manifest: Manifest, blobs: Mapping[str, Path], *, anew: bool = False) -> int:
    """Build the folder beside its place and rename it, so that readers never see an incomplete folder.

    One that is whole is used as it is, unless it is to be built `anew`.

    Returns a file descriptor: the folder is in use until it is closed.
    """
    with _exclusive(folder.parent):
        if anew or not _is_whole(folder, manifest):
            shutil.rmtree(folder, ignore_errors=True)
            draft = folder.parent / f".{folder.name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            for path, blob in blobs.items():
                target = draft / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(blob.resolve(), target)
            (draft / FOLDER_MANIFEST).write_bytes(manifest.encode())
            draft.rename(folder)
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return fd


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    try:
        files = all((folder / file.path).stat().st_size == file.size for file in manifest.files)
        return files and (folder / FOLDER_MANIFEST).is_file()
    except FileNotFoundError:
        return False


def _link(blob: Path, target: Path) -> None:
    try:
        os.link(blob, target)
    except OSError:  # another file system, or one without hard links
        target.symlink_to(blob)
