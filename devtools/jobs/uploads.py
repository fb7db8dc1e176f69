"""Files that a client uploaded become a version of a dataset, in the job that learns from it."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devtools.data.check import Checker
from devtools.data.reader import Reader, source_of
from devtools.data.version import Shards
from devtools.jobs.files import fetch_file, upload_folder
from devtools.jobs.tool import Run
from shared.contracts.dataset import DatasetManifest
from shared.contracts.job import NewVersion, Upload
from shared.contracts.manifest import Digest, Kind
from shared.errors import CorruptFile

_FOLDER = "uploads"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class UploadedDataset:
    """A version that the job has made of its uploads: the same files always make the same.

    manifest: Of the version.
    digest: Of the manifest.
    folder: With its files.
    """

    manifest: DatasetManifest
    digest: Digest
    folder: Path


async def uploaded_dataset(run: Run) -> UploadedDataset | None:
    """The dataset of the job's uploads, as the first of its results; None if it has no uploads.

    Raises:
        CorruptFile: Some lines are no rows; the message begins with the file and the line of the first.
        InvalidInput: The files have no rows, or rows of two kinds.
        NotFound: The store does not have a file.
    """
    spec = run.assignment.spec
    if not spec.uploads:
        return None
    assert spec.result_name is not None
    root = run.workspace.inputs / _FOLDER
    for upload in spec.uploads:
        await fetch_file(run.store, upload.file, _place(root, upload), run.cache)
    folder = root / "dataset"
    manifest = await asyncio.to_thread(_convert, spec.uploads, root, folder)
    await upload_folder(run.store, folder)
    run.messages.send(result=NewVersion(name=spec.result_name, kind=Kind.DATASET, manifest=manifest))
    return UploadedDataset(manifest, hashlib.sha256(manifest.canonical()).hexdigest(), folder)


def _place(root: Path, upload: Upload) -> Path:
    return root / upload.split / upload.file_name


def _convert(uploads: tuple[Upload, ...], root: Path, folder: Path) -> DatasetManifest:
    checker, broken = Checker(), list[str]()
    readers = [(upload, Reader(_place(root, upload))) for upload in uploads]
    with Shards(folder) as shards:
        for upload, reader in readers:
            for located in reader.read():
                if located.defect is not None:
                    broken.append(str(located.defect))
                checker.add(located)
                for row in located.rows:
                    shards.write(row, located.where, upload.split)
    if broken:
        raise CorruptFile("; ".join(_few(broken)) + ". Mend them, and upload the file again", param="uploads")
    return shards.manifest(
        sources=[source_of(reader.path, reader) for _, reader in readers], findings=checker.findings()
    )


def _few(broken: list[str]) -> Iterator[str]:
    yield from broken[:_SHOWN]
    if len(broken) > _SHOWN:
        yield f"and {len(broken) - _SHOWN} more"
