"""The part of the client that is about reports."""

from collections.abc import Callable
from pathlib import Path

from llmos.datasets import Store
from shared.contracts.registry import ReportList, ReportVersion
from shared.contracts.report import ReportManifest

_ROUTE = "/llmos/v1/reports"


class Reports:
    """Reports of one gateway. Errors are those of `shared.errors`.

    Args:
        call: Makes a request; answers the body of the response.
        store: Has the files.
    """

    def __init__(self, call: Callable[..., bytes], store: Store) -> None:
        self._call = call
        self._store = store

    def list(self) -> ReportList:
        """All reports with their versions and aliases."""
        return ReportList.decode(self._call("GET", _ROUTE))

    def version(self, reference: str) -> ReportVersion:
        """What `name`, `name:3` or `name@alias` means now."""
        return ReportVersion.decode(self._call("GET", f"{_ROUTE}/{reference}"))

    def publish(self, name: str, manifest: ReportManifest, folder: Path) -> ReportVersion:
        """Upload the files of a report that are in `folder`, and make it a version."""
        for file in manifest.files:
            if not self._store.has_blob(file.digest):
                self._store.upload(file.digest, folder / file.path, lambda _sent: None)
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": []}
        return ReportVersion.decode(self._call("POST", f"{_ROUTE}/{name}/versions", body))

    def download(self, manifest: ReportManifest, folder: Path) -> None:
        """Download the files of a report to a folder."""
        for file in manifest.files:
            self._store.download(file.digest, folder / file.path, lambda _received: None)
