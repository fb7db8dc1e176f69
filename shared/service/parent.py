"""A process that was started by a supervisor does not outlive it.

Two nets. The kernel's `PR_SET_PDEATHSIG` kills the process when the thread that started it ends; it holds for every
program, and is set by `tether` before the program runs. A thread that waits on the parent's pidfd catches the rest:
a parent that is not the direct one, and systems without prctl.
"""

import os
import select
import signal
import threading
import time

PARENT_PID_VARIABLE = "LLMOS_PARENT_PID"
_POLL_S = 1.0


def follow_parent() -> None:
    """End this process by SIGKILL as soon as the process named in `LLMOS_PARENT_PID` is gone.

    Does nothing when the variable is not set. Children started later with `supervise` die too, by the same rule.
    """
    named = os.environ.get(PARENT_PID_VARIABLE, "")
    if not named.isdecimal() or int(named) == os.getpid():
        return
    parent = int(named)
    threading.Thread(target=_die_after, args=(parent,), name="follow-parent", daemon=True).start()


def _die_after(parent: int) -> None:
    _wait_for_end(parent)
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_end(pid: int) -> None:
    """Return when `pid` has ended, or at once if there is no such process."""
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        return
    while _exists(pid):
        time.sleep(_POLL_S)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
