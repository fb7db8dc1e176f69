"""The logs of an embedded system's processes."""

import time
from pathlib import Path

LOG_DAYS = 7
"""Days after which the log of a replica that is gone is removed."""


def remove_old_logs(folder: Path, now: float | None = None) -> None:
    """Remove logs of replicas that are older than `LOG_DAYS` days: the name of a replica is not used again."""
    oldest = (time.time() if now is None else now) - LOG_DAYS * 86400
    for path in folder.glob("replica-*.log*"):
        if path.stat().st_mtime < oldest:
            path.unlink()


def last_line(path: Path) -> str:
    """The last line of a log, or `no log`."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "no log"
    return lines[-1][:500] if lines else "no log"
