"""The part of the client that is about reports."""

from pathlib import Path

from llmos.datasets import Store
from llmos.transport import Transport
from shared.contracts.registry import ReportList, ReportVersion
from shared.contracts.report import ReportManifest


class Reports:
    """Reports of one gateway. Errors are those of `shared.errors`.

    Args:
        gateway: Makes the requests.
        store: Has the files.
    """

    def __init__(self, gateway: Transport, store: Store) -> None:
        self._gateway = gateway
        self._store = store

    def list(self) -> ReportList:
        """All reports with their versions and aliases."""
        return self._gateway.call(ReportList, "GET", "reports")

    def version(self, reference: str) -> ReportVersion:
        """What `name`, `name:3` or `name@alias` means now."""
        return self._gateway.call(ReportVersion, "GET", "reports", reference)

    def publish(self, name: str, manifest: ReportManifest, folder: Path) -> ReportVersion:
        """Upload the files of a report that are in `folder`, and make it a version."""
        for file in manifest.files:
            if not self._store.has_blob(file.digest):
                self._store.upload(file.digest, folder / file.path, lambda _sent: None)
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": []}
        return self._gateway.call(ReportVersion, "POST", "reports", name, "versions", body=body)

    def download(self, manifest: ReportManifest, folder: Path) -> None:
        """Download the files of a report to a folder."""
        for file in manifest.files:
            self._store.download(file.digest, folder / file.path, lambda _received: None)
