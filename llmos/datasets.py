"""The part of the client that is about datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import FileList
from shared.contracts.registry import CatalogueRecord, DatasetList, DatasetVersion

_ROUTE = "/llmos/v1/datasets"
Sent = Callable[[int], None]


class Store(Protocol):
    """Files of versions, by digest."""

    def has_blob(self, digest: str) -> bool:
        """Whether these bytes are there already."""

    def upload(self, digest: str, path: Path, sent: Sent) -> None:
        """Upload a file."""

    def download(self, digest: str, path: Path, received: Sent) -> None:
        """Download a file, and verify it."""


class Datasets:
    """Datasets of one gateway. Errors are those of `shared.errors`.

    Args:
        call: Makes a request; answers the body of the response.
        store: Has the files.
    """

    def __init__(self, call: Callable[..., bytes], store: Store) -> None:
        self._call = call
        self._store = store

    def list(self) -> DatasetList:
        """All datasets with their versions and aliases."""
        return DatasetList.decode(self._call("GET", _ROUTE))

    def version(self, reference: str) -> DatasetVersion:
        """What `name`, `name:3` or `name@alias` means now."""
        return DatasetVersion.decode(self._call("GET", f"{_ROUTE}/{reference}"))

    def create(self, name: str, manifest: DatasetManifest, aliases: tuple[str, ...] = ()) -> DatasetVersion:
        """A version from uploaded blobs; the same manifest again answers the same version."""
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": [*aliases]}
        return DatasetVersion.decode(self._call("POST", f"{_ROUTE}/{name}/versions", body))

    def set_alias(self, name: str, alias: str, version: int) -> CatalogueRecord:
        """Point `name@alias` at a version."""
        return CatalogueRecord.decode(self._call("PUT", f"{_ROUTE}/{name}/aliases/{alias}", {"version": version}))

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove `name@alias`."""
        self._call("DELETE", f"{_ROUTE}/{name}/aliases/{alias}")

    def delete(self, reference: str) -> None:
        """Delete a version, or a dataset with all its versions."""
        self._call("DELETE", f"{_ROUTE}/{reference}")

    def upload(self, files: FileList, folder: Path, progress: Callable[[str, float], None]) -> None:
        """Upload the files of a version that the store does not have yet."""
        done = 0

        def sent(count: int) -> None:
            progress("upload", (done + count) / max(1, files.size))

        for file in files.files:
            if not self._store.has_blob(file.digest):
                self._store.upload(file.digest, folder / file.path, sent)
            done += file.size
        progress("upload", 1.0)

    def download(self, files: FileList, folder: Path, progress: Callable[[str, float], None]) -> None:
        """Download the files of a version to a folder."""
        done = 0

        def received(count: int) -> None:
            progress("download", (done + count) / max(1, files.size))

        for file in files.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._store.download(file.digest, target, received)
            done += file.size
        progress("download", 1.0)
