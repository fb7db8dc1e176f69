"""Removes at a start what imports left that were killed. What a running import uses is locked, and stays."""

import tempfile
import time
from pathlib import Path

import structlog

from llmos.client import Client
from llmos.home import Home
from llmos.import_journal import abandoned
from llmos.importing import WORK_PREFIX
from shared.errors import LlmosError
from shared.storage.scratch import remove_abandoned_folders

DOWNLOAD_DAYS = 7
"""Days for which a download that was cut off is kept, so that the same command goes on from there."""

_log = structlog.get_logger("llmos.launcher")


def remove_folders(home: Home, now: float | None = None) -> None:
    """Remove the work folders of killed imports, and downloads that nothing was added to for `DOWNLOAD_DAYS` days."""
    oldest = (time.time() if now is None else now) - DOWNLOAD_DAYS * 86400
    removed = remove_abandoned_folders(Path(tempfile.gettempdir()), WORK_PREFIX)
    removed += remove_abandoned_folders(home.downloads, unchanged_since=oldest)
    for path in removed:
        _log.info("import.leftovers_removed", path=str(path))


def remove_blobs(home: Home, client: Client) -> None:
    """Remove the blobs of imports that ended without a version, unless another version has them."""
    journals = abandoned(home.imports)
    digests = sorted(frozenset[str]().union(*journals.values()))
    if digests:
        try:
            report = client.collect_uploads(digests)
        except LlmosError as error:  # a later start tries again
            _log.warning("import.leftovers_not_removed", error=error.message)
            return
        _log.info("import.leftovers_removed", blobs=len(report.blobs), bytes=report.size)
    for path in journals:
        path.unlink(missing_ok=True)
