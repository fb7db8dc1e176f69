"""What may still be written to the disk that the bus, the store and the logs share, and what stops before it is full.

Answers are computed in memory and need no disk, so they go on whatever happens here. The rest stops one after the
other, each at a reserve of its own, so that what matters more still finds room: telemetry and logs, then imports,
then changes (deployments, keys, aliases). Removals are always tried: they make room.
"""

import errno
import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MIB = 1 << 20
LOOK_S = 0.25
"""A look is good for this long."""


class DiskUse(StrEnum):
    """What stops, in this order."""

    TELEMETRY = "telemetry"
    """Traces, and log lines below warnings."""
    IMPORTS = "imports"
    """Files of versions, on their way into the store."""
    CHANGES = "changes"
    """Records of the control state."""


_RESERVES: dict[DiskUse, tuple[float, int]] = {
    DiskUse.TELEMETRY: (0.10, 1024 * _MIB),
    DiskUse.IMPORTS: (0.06, 512 * _MIB),
    DiskUse.CHANGES: (0.02, 64 * _MIB),
}
"""Of the file system, but at most so many bytes."""
_NEEDED_BY = {
    "logs": (DiskUse.TELEMETRY,),
    "monitor": (DiskUse.TELEMETRY,),
    "store": (DiskUse.IMPORTS,),
    "nats": (DiskUse.TELEMETRY, DiskUse.CHANGES),
}
"""Folders of a home, and what can't go on when one can't be written."""


def reserve(use: DiskUse, total: int) -> int:
    """Bytes that must be free, of a file system of `total` bytes, for `use` to go on."""
    share, most = _RESERVES[use]
    return min(int(share * total), most)


@dataclass(frozen=True, slots=True)
class DiskState:
    """One look at the disk."""

    folder: Path
    free: int
    """Bytes."""
    total: int
    problems: dict[DiskUse, str]
    """Why what has stopped has, in words."""
    unwritable: dict[str, str]
    """Folders of `folder` that can't be written, and why; "" is `folder` itself."""

    @property
    def stopped(self) -> tuple[DiskUse, ...]:
        """What has stopped."""
        return tuple(use for use in DiskUse if use in self.problems)

    @property
    def summary(self) -> str | None:
        """What has stopped and why, in one line; None: nothing has."""
        if not self.problems:
            return None
        why = self.problems[self.stopped[-1]]
        return f"{_listed(self.stopped)} stopped, answers go on: {why}"


def judge(folder: Path, *, free: int, total: int, unwritable: dict[str, str]) -> DiskState:
    """What has to stop. Pure.

    Args:
        folder: On the file system.
        free: Bytes that may still be written to it.
        total: Its size in bytes.
        unwritable: Folders of `folder` that can't be written, and why; "" is `folder` itself.
    """
    problems = {}
    for use in DiskUse:
        if free < (least := reserve(use, total)):
            problems[use] = (
                f"{folder} has {readable_bytes(free)} free of {readable_bytes(total)}, and for {use}"
                f" {readable_bytes(least)} must be free; free some space"
            )
        for name, why in unwritable.items():
            if not name or use in _NEEDED_BY[name]:
                problems[use] = f"{folder / name} can't be written: {why}"
    return DiskState(folder, free, total, problems, unwritable)


class Disk:
    """The file system that a home lies on.

    Args:
        folder: The home; None: nothing is watched, and nothing stops.
        clock: Monotonic seconds.
    """

    def __init__(self, folder: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._last: tuple[float, DiskState] | None = None

    def look(self) -> DiskState | None:
        """The state now, or `LOOK_S` ago; None: nothing is watched, or the folder is gone."""
        if self._folder is None:
            return None
        now = self._clock()
        if self._last is None or now - self._last[0] >= LOOK_S:
            try:
                stat = os.statvfs(self._folder)
            except OSError:
                return None
            free, total = stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
            self._last = now, judge(self._folder, free=free, total=total, unwritable=_unwritable(self._folder))
        return self._last[1]

    def why_not(self, use: DiskUse) -> str | None:
        """Why `use` has stopped; None: it goes on."""
        state = self.look()
        return None if state is None else state.problems.get(use)


def _unwritable(folder: Path) -> dict[str, str]:
    return {name: why for name in ("", *_NEEDED_BY) if (why := _why_not_writable(folder / name)) is not None}


def _why_not_writable(path: Path) -> str | None:
    """Why nothing can be made in a folder; None: it can, or there is no such folder yet."""
    if os.access(path, os.W_OK | os.X_OK):
        return None
    try:
        stat, system = path.stat(), os.statvfs(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    if system.f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS).lower()
    return f"it belongs to {_user(stat.st_uid)}, and this is {_user(os.geteuid())}; give it back with chown"


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _listed(uses: tuple[DiskUse, ...]) -> str:
    *first, last = map(str, uses)
    return f"{', '.join(first)} and {last}" if first else last


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the file system of `folder`."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def total_bytes(folder: Path) -> int:
    """The size of the file system of `folder`."""
    stat = os.statvfs(folder)
    return stat.f_blocks * stat.f_frsize


def readable_bytes(count: int) -> str:
    """`1.5 GiB`."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, 0
    while value >= 1024 and unit < 4:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {('KiB', 'MiB', 'GiB', 'TiB', 'PiB')[unit]}"
