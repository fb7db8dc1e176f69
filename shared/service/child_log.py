"""A log file that a child process writes to, kept within a bound.

A child inherits the open file and cannot open another one. So the file is rotated in place: its lines are copied to
`<name>.1`, replacing what was there, and the file is truncated. Children write at the end of the file as it is then
(`O_APPEND`). A line that is written while the last bytes are copied can be lost, or its end; that takes
microseconds.
"""

import asyncio
import os
from pathlib import Path

import structlog

_log = structlog.get_logger("llmos.supervise")

LIMIT = 16 << 20
"""Bytes of one file; `<name>.1` has at most as many."""
CHECK_S = 10.0
"""Seconds between looks at the size; a file may exceed its limit by what is written in this time."""
_PIECE = 1 << 20


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`, for a child; readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def previous(path: Path) -> Path:
    """The file with the lines before the last rotation."""
    return path.with_name(f"{path.name}.1")


def rotate(path: Path, limit: int = LIMIT) -> bool:
    """Move the file's lines to `previous(path)` if there are more than `limit` bytes; whether it did.

    Raises:
        OSError: The disk is full, or the file can't be read. Nothing is lost then.
    """
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    draft = path.with_name(f".{path.name}.1")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as copy, path.open("r+b", buffering=0) as log:
            while piece := log.read(_PIECE):
                copy.write(piece)
            log.truncate(0)
        draft.replace(previous(path))
    finally:
        draft.unlink(missing_ok=True)
    return True


async def rotate_above(path: Path, limit: int = LIMIT, *, every: float = CHECK_S) -> None:
    """Rotate the file whenever it is above `limit`, until cancelled."""
    while True:
        await asyncio.sleep(every)
        try:
            await asyncio.to_thread(rotate, path, limit)
        except OSError as error:
            _log.warning("log.not_rotated", path=str(path), error=str(error))
