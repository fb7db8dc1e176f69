"""The part of the client that is about versions of models, datasets and reports."""

from pathlib import Path
from typing import Any, Generic, TypeVar

from llmos.blobs import Blobs
from llmos.progress import Progress, no_progress
from llmos.transport import Transport, admin_path
from shared.contracts.base import Contract
from shared.contracts.manifest import FileList, ManifestFile
from shared.contracts.registry import Catalogue, CatalogueRecord, VersionInfo

ManifestT = TypeVar("ManifestT", bound=FileList)
InfoT = TypeVar("InfoT", bound=VersionInfo)
ListT = TypeVar("ListT", bound=Contract)


class Versions(Generic[ManifestT, InfoT, ListT]):
    """One kind's versions at one gateway. Errors are those of `shared.errors`.

    Args:
        gateway: Makes the requests.
        blobs: The bytes of the versions' files.
        catalogue: The kind and its contracts.
    """

    def __init__(self, gateway: Transport, blobs: Blobs, catalogue: Catalogue[ManifestT, Any, InfoT, ListT]) -> None:
        self._gateway = gateway
        self._blobs = blobs
        self._catalogue = catalogue
        self._route = f"{catalogue.kind}s"

    def list(self) -> ListT:
        """All names with their versions and aliases."""
        return self._gateway.call(self._catalogue.list.response, "GET", self._route)

    def version(self, reference: str) -> InfoT:
        """What `name`, `name:3` or `name@alias` means now."""
        return self._gateway.call(self._catalogue.resolve.response, "GET", self._route, reference)

    def create(self, name: str, manifest: ManifestT, aliases: tuple[str, ...] = ()) -> InfoT:
        """A version from uploaded blobs; the same manifest again answers the same version."""
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": [*aliases]}
        return self._gateway.call(self._catalogue.create.response, "POST", self._route, name, "versions", body=body)

    def set_alias(self, name: str, alias: str, version: int) -> CatalogueRecord:
        """Point `name@alias` at a version."""
        body = {"version": version}
        return self._gateway.call(CatalogueRecord, "PUT", self._route, name, "aliases", alias, body=body)

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove `name@alias`."""
        self._gateway.send("DELETE", admin_path(self._route, name, "aliases", alias))

    def delete(self, reference: str) -> None:
        """Delete a version, or a name with all its versions."""
        self._gateway.send("DELETE", admin_path(self._route, reference))

    def has_file(self, file: ManifestFile) -> bool:
        """Whether the store has a file with its digest."""
        return self._blobs.has(file.digest)

    def upload(self, manifest: ManifestT, folder: Path, progress: Progress = no_progress) -> None:
        """Upload those files of a version that the store does not have yet."""
        done = 0

        def sent(count: int) -> None:
            progress("upload", (done + count) / max(1, manifest.size), manifest.size)

        for file in manifest.files:
            if not self.has_file(file):
                self._blobs.upload(file.digest, folder / file.path, sent)
            done += file.size
        progress("upload", 1.0, manifest.size)

    def download(self, manifest: ManifestT, folder: Path, progress: Progress = no_progress) -> None:
        """Download the files of a version to a folder."""
        done = 0

        def received(count: int) -> None:
            progress("download", (done + count) / max(1, manifest.size), manifest.size)

        for file in manifest.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._blobs.download(file.digest, target, received)
            done += file.size
        progress("download", 1.0, manifest.size)
