"""Manifests with their blobs, for tests."""

from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import Lineage, Manifest, ManifestFile
from shared.storage.port import ArtifactStore
from tests.support.factories.blobs import sha256, stream


def manifest_of(files: dict[str, bytes], *, source: str = "test.gguf") -> Manifest:
    """A manifest that names `files`, by path; everything else is the contract's example."""
    assert Manifest.EXAMPLE is not None
    return Manifest.EXAMPLE.model_copy(
        update={
            "files": tuple(
                ManifestFile(path=path, digest=sha256(data), size=len(data)) for path, data in sorted(files.items())
            ),
            "lineage": Lineage(source=source),
        }
    )


async def uploaded(store: ArtifactStore, files: dict[str, bytes], *, source: str = "test.gguf") -> Manifest:
    """The same, with the blobs in `store`."""
    for data in files.values():
        await store.put_blob(sha256(data), stream(data))
    return manifest_of(files, source=source)


async def uploaded_dataset(store: ArtifactStore, rows: bytes) -> DatasetManifest:
    """A dataset's manifest with one shard in `store`."""
    await store.put_blob(sha256(rows), stream(rows))
    file = ManifestFile(path="train-00000.jsonl", digest=sha256(rows), size=len(rows))
    return DatasetManifest(files=(file,), rows="text", splits={"train": rows.count(b"\n")})
