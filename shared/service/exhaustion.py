"""What the system says of a process that has no more open files to spare, or was killed for lack of memory."""

import os
import resource
from pathlib import Path

SPARE = 8
"""With fewer open files to spare a process is not ready: its next connection or file of a model may need one."""
_VMSTAT = Path("/proc/vmstat")


def why_no_files() -> str | None:
    """Why this process can hardly open another file; None: it can.

    The system gives the lowest free number to each file, so the next number is about the count.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        number = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"it can open no more files: {error.strerror}; {_advice(limit)}"
    os.close(number)
    if limit == resource.RLIM_INFINITY or number + SPARE < limit:
        return None
    return f"it has about {number} files open; {_advice(limit)}"


def _advice(limit: int) -> str:
    return f"its limit is {limit}: raise it (ulimit -n) and start it again"


def oom_kills() -> int | None:
    """How many processes the system has killed for lack of memory since it started; None: it does not say."""
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
