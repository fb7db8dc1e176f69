"""The files of a version in the store: whether they are there, and what the manifest of a version says."""

import asyncio
from collections.abc import Iterable, Mapping

from services.registry.manifests import ManifestT, decode_manifest
from shared.contracts.manifest import FileList, Kind, ManifestFile
from shared.contracts.registry import CatalogueRecord, Named, VersionEntry
from shared.errors import CorruptFile, InvalidInput
from shared.storage.port import ArtifactStore


async def missing_file(store: ArtifactStore, files: Iterable[ManifestFile]) -> str | None:
    """What is wrong with the first file whose blob is not there in the stated size; None when all are."""
    files = tuple(files)
    sizes = await asyncio.gather(*(store.blob_size(file.digest) for file in files))
    for file, size in zip(files, sizes, strict=True):
        if size is None:
            return f"file {file.path!r}: blob {file.digest} is not in the store; upload it first"
        if size != file.size:
            return f"file {file.path!r}: blob {file.digest} has {size} bytes, the manifest says {file.size}"
    return None


async def require_files(store: ArtifactStore, manifest: FileList) -> None:
    """Raise `InvalidInput` naming the first file that is not there in the stated size, or when there is no file."""
    problem = await missing_file(store, manifest.files) if manifest.files else "the manifest names no file"
    if problem is not None:
        raise InvalidInput(problem, param="manifest.files")


async def read_manifest(
    store: ArtifactStore, name: str, entry: VersionEntry, *, kind: Kind, contract: type[ManifestT]
) -> ManifestT:
    """The manifest of a version; raises `CorruptFile` when it is gone or was changed."""
    data = await store.get_manifest(name, entry.version, kind)
    if data is None:
        raise CorruptFile(
            f"the manifest of {name}:{entry.version} is gone from the store; delete this version and import it again"
        )
    return decode_manifest(data, contract, digest=entry.digest, reference=f"{name}:{entry.version}")


async def referenced_blobs(store: ArtifactStore, catalogue: Mapping[Named, CatalogueRecord]) -> set[str]:
    """The digests of all files of all versions; raises `CorruptFile` when one manifest can't be read."""
    digests: set[str] = set()
    for (kind, name), record in catalogue.items():
        for entry in record.versions:
            manifest = await read_manifest(store, name, entry, kind=kind, contract=FileList)
            digests.update(file.digest for file in manifest.files)
    return digests
