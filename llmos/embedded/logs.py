"""The logs of an embedded system's processes."""

import time
from contextlib import suppress
from pathlib import Path

import orjson

LOG_DAYS = 7
"""Days after which the log of a replica that is gone is removed."""


class FullDiskLog:
    """A log file that loses lines while the disk takes none: no line is worth the supervision of the processes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> None:
        """Append; what can't be written is lost."""
        with suppress(OSError):
            self._file.write(text.encode())

    def flush(self) -> None:
        """Nothing is buffered here."""


def remove_old_logs(folder: Path, now: float | None = None) -> None:
    """Remove logs of replicas that are older than `LOG_DAYS` days: the name of a replica is not used again."""
    oldest = (time.time() if now is None else now) - LOG_DAYS * 86400
    for path in folder.glob("replica-*.log*"):
        if path.stat().st_mtime < oldest:
            path.unlink()


def last_line(path: Path) -> str:
    """The last line of a log, or `no log`; of a record in JSON its error."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().split("\n")
    except FileNotFoundError:
        return "no log"
    try:
        record = orjson.loads(lines[-1])
        text = str(record.get("error") or record.get("event") or lines[-1])
    except (orjson.JSONDecodeError, AttributeError):
        text = lines[-1]
    return text[:500] or "no log"
