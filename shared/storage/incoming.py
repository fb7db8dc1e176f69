"""A file on its way in: hashed while it is written, invisible until it is whole, gone if it never is.

It is held by `flock` while its process lives. So a process that opens the folder can distinguish a file that is
being written from one that a killed process left behind.
"""

import errno
import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

from shared.disk import free_bytes, readable_bytes
from shared.errors import LlmosError, StorageFull, Unavailable

_FICLONE = 0x40049409
"""ioctl of Linux (linux/fs.h): Btrfs, XFS and others share the blocks until one of the files is changed."""
_READ = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class IncomingFile:
    """A new file in `folder`, which must be on the file system that it will end up on.

    Unless `place` or `link` was called, `discard` (or the end of the `with` block) leaves nothing.
    Blocking; call it from a thread.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.size = 0
        self._hash = hashlib.sha256()
        self._path, self._fd = _new_locked_file(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Give it up, or let go of it after `place` or `link`."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._hash.update(view[:written])
            self.size += written
            view = view[written:]

    def clone(self, source: Path) -> bool:
        """Share the blocks of `source` instead of writing; False, with nothing done, where that is not possible."""
        with source.open("rb") as file:
            try:
                fcntl.ioctl(self._fd, _FICLONE, file.fileno())
            except OSError:
                return False
        with open(self._fd, "rb", closefd=False) as file:
            while data := file.read(_READ):
                self._hash.update(data)
                self.size += len(data)
        return True

    def place(self, target: Path) -> None:
        """Make it visible as `target`, durably and at once; replaces what stands there."""
        os.fsync(self._fd)
        make_folder(target.parent)
        self._path.rename(target)
        sync_folder(target.parent)

    def link(self, target: Path) -> bool:
        """Like `place`, but returns False and changes nothing when `target` exists."""
        os.fsync(self._fd)
        make_folder(target.parent)
        try:
            target.hardlink_to(self._path)
        except FileExistsError:
            return False
        sync_folder(target.parent)
        return True


def _new_locked_file(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / uuid4().hex
        # Read-only from the start: what a store holds is never changed.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # `remove_abandoned` came between the two calls


def remove_abandoned(folder: Path) -> list[Path]:
    """Remove the incoming files of processes that are gone; returns what was removed."""
    removed = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path)
            except BlockingIOError:
                pass  # its writer lives
            finally:
                os.close(fd)
    return removed


def make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_error(error: OSError, root: Path, doing: str, needed: int | None = None) -> LlmosError:
    """Our error for what the operating system said under `root`.

    Args:
        error: What it said.
        root: The folder that the person configured; named in the message.
        doing: What failed, as in "storing blob ab12…".
        needed: Bytes that the file needs in all, as far as known.

    Returns:
        `StorageFull` when space, quota or file size ran out, else `Unavailable`: no permission, a broken disk.
    """
    if error.errno not in _FULL:
        return Unavailable(f"{doing} failed in {root}: {error.strerror or error}")
    free = readable_bytes(free_bytes(root))
    space = f"{free} free" if needed is None else f"at least {readable_bytes(needed)} needed, {free} free"
    return StorageFull(f"{doing} found no room in {root}: {space}; free some, or give another folder")
