"""The part of the client that is about datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from llmos.transport import Transport, admin_path
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import FileList
from shared.contracts.registry import CatalogueRecord, DatasetList, DatasetVersion

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
        gateway: Makes the requests.
        store: Has the files.
    """

    def __init__(self, gateway: Transport, store: Store) -> None:
        self._gateway = gateway
        self._store = store

    def list(self) -> DatasetList:
        """All datasets with their versions and aliases."""
        return self._gateway.call(DatasetList, "GET", "datasets")

    def version(self, reference: str) -> DatasetVersion:
        """What `name`, `name:3` or `name@alias` means now."""
        return self._gateway.call(DatasetVersion, "GET", "datasets", reference)

    def create(self, name: str, manifest: DatasetManifest, aliases: tuple[str, ...] = ()) -> DatasetVersion:
        """A version from uploaded blobs; the same manifest again answers the same version."""
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": [*aliases]}
        return self._gateway.call(DatasetVersion, "POST", "datasets", name, "versions", body=body)

    def set_alias(self, name: str, alias: str, version: int) -> CatalogueRecord:
        """Point `name@alias` at a version."""
        body = {"version": version}
        return self._gateway.call(CatalogueRecord, "PUT", "datasets", name, "aliases", alias, body=body)

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove `name@alias`."""
        self._gateway.send("DELETE", admin_path("datasets", name, "aliases", alias))

    def delete(self, reference: str) -> None:
        """Delete a version, or a dataset with all its versions."""
        self._gateway.send("DELETE", admin_path("datasets", reference))

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
