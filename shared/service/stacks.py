"""The stacks of a process's threads on its stderr, which is its log.

A process that hangs can't explain itself in a log event. `faulthandler` writes from C, so it also shows a thread that
never gives up the GIL.
"""

import faulthandler
import os
import signal
from contextlib import suppress

SIGNAL = signal.SIGUSR1
_STDERR = 2


def dump_on_signal() -> None:
    """Write the stacks of all threads whenever `SIGNAL` comes; the process goes on."""
    faulthandler.register(SIGNAL, file=_STDERR, all_threads=True)


def dump() -> None:
    """Write the stacks of all threads now."""
    faulthandler.dump_traceback(file=_STDERR, all_threads=True)


def request_dump(pid: int) -> None:
    """Ask a process for its stacks; one that has ended, or has no handler yet, writes none."""
    with suppress(ProcessLookupError):
        os.kill(pid, SIGNAL)
