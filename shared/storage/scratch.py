"""Folders that a process uses for a while, and that show whether it still lives: it holds a lock (`flock`) on them.

The kernel frees the lock of a process that was killed, so what it left can be removed and what is in use is never
touched. Blocking; a folder on a file system without locks counts as in use.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, removed at the end. Those that killed processes left are removed first."""
    remove_abandoned_folders(parent, prefix)
    path, lock = _new_locked_folder(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have a folder, made if need be, for this process alone.

    Raises:
        BlockingIOError: Another process has it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            lock = _open_folder(folder)
            break
    try:
        _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def remove_abandoned_folders(parent: Path, prefix: str = "", *, unchanged_since: float | None = None) -> list[Path]:
    """Remove the folders in `parent` that this user's killed processes left; returns what was removed.

    Args:
        parent: Looked at one level deep.
        prefix: Of their names.
        unchanged_since: Only those in which nothing has changed since then, in seconds since the epoch.
    """
    removed = []
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if path.name.startswith(prefix):
            with suppress(OSError):  # in use, gone meanwhile, no folder, or another user's
                if _remove_abandoned(path, unchanged_since):
                    removed.append(path)
    return removed


def _remove_abandoned(path: Path, unchanged_since: float | None) -> bool:
    lock = _open_folder(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.fstat(lock).st_uid == os.getuid()
        old = unchanged_since is None or _changed(path) < unchanged_since
        if ours and old:
            shutil.rmtree(path)
        return ours and old
    finally:
        os.close(lock)


def _changed(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _new_locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with suppress(FileNotFoundError):
            lock = _open_folder(path)
            _lock(lock, fcntl.LOCK_SH)
            if path.exists():
                return path, lock
            os.close(lock)
        # `remove_abandoned_folders` of another process came in between


def _lock(descriptor: int, kind: int) -> None:
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks: nothing in it is removed as abandoned
        pass


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
