"""Messages to the node agent: one JSON line each on the process's first standard output.

`claim_output` keeps that for messages alone; whatever else is printed, also by libraries and child processes, goes to
standard error, the job's log.
"""

import os
import sys
from threading import Lock
from typing import Any

from shared.contracts.job import ProcessMessage


class Messages:
    """Writes messages; may be used from any thread.

    Args:
        descriptor: Of the pipe to the node agent.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = Lock()

    def send(self, **fields: Any) -> None:
        """Send one message: `progress=…`, `checkpoint=…`, `result=…` or `failure=…`."""
        line = ProcessMessage(**fields).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def claim_output() -> Messages:
    """Take standard output for messages; from now on it is the log for everything else."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return Messages(descriptor)
