"""Folders that are whole or absent, whatever happens while they are written."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import StorageFull

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PARTIAL = ".partial"


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """A folder to write into; it becomes `destination`, which must not exist, when the block ends well.

    Files are flushed to the disk before the folder is renamed, so a crash leaves the folder or nothing.

    Raises:
        StorageFull: no room; nothing of it stays.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = destination.with_name(f".{destination.name}{_PARTIAL}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
        yield staging
        for path in (*sorted(staging.iterdir()), staging):
            _flush(path)
        staging.rename(destination)
        _flush(destination.parent)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if error.errno not in _DISK_FULL:
            raise
        raise StorageFull(
            f"no room for {destination} ({os.strerror(error.errno)}); what was written before it stays."
            " Free some space and start the same command again"
        ) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what a killed process was writing in `folder`."""
    for path in folder.glob(f".*{_PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)


def folder_digest(folder: Path) -> str:
    """SHA-256 of the list of the folder's files with their SHA-256s, as `sha256sum` prints it."""
    lines = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
