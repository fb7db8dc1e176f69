"""The health of a process in a file, for a reader without NATS: a container's health check.

    python -m shared.service.health_file     # 0: ready; 1: not, with the reasons on stdout

The process writes the file named by `LLMOS_HEALTH_FILE` with every heartbeat. A file that is no longer written is
the file of a process that hangs or is gone.
"""

import json
import os
import sys
import time
from pathlib import Path

from shared.deadlines import HEALTH_FILE_STALE_S

HEALTH_FILE_VARIABLE = "LLMOS_HEALTH_FILE"


def write(path: Path, reasons: tuple[str, ...]) -> None:
    """Write this process's health; empty `reasons` mean ready. A reader never sees a part of the file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"reasons": reasons}), encoding="utf-8")
    temporary.replace(path)


def problem(path: Path, now: float) -> str | None:
    """Why the process that writes `path` cannot serve, or None. `now` is seconds since the epoch."""
    try:
        age = now - path.stat().st_mtime
        reasons = json.loads(path.read_text(encoding="utf-8"))["reasons"]
    except FileNotFoundError:
        return f"{path} was not written yet: the process starts, waits for its bus, or does not run"
    if age > HEALTH_FILE_STALE_S:
        return f"{path} was last written {age:.0f} s ago: the process hangs or is gone"
    return "; ".join(reasons) or None


def main() -> int:
    """The exit code of a health check."""
    named = os.environ.get(HEALTH_FILE_VARIABLE)
    found = problem(Path(named), time.time()) if named else f"{HEALTH_FILE_VARIABLE} is not set"
    sys.stdout.write(f"{found or 'ready'}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
