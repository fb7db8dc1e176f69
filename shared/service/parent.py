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

from shared.service.process_identity import ProcessIdentity, birth

PARENT_PID_VARIABLE = "LLMOS_PARENT_PID"
PARENT_BIRTH_VARIABLE = "LLMOS_PARENT_BIRTH"
"""Set with it by a supervisor: a stranger may have the pid by the time that the child looks (`process_identity`)."""
_POLL_S = 1.0


def follow_parent() -> None:
    """End this process by SIGKILL as soon as the process named in `LLMOS_PARENT_PID` has ended.

    Does nothing when the variable is not set. Children started later with `supervise` die too, by the same rule.
    """
    named = os.environ.get(PARENT_PID_VARIABLE, "")
    if not named.isdecimal() or int(named) == os.getpid():
        return
    recorded = os.environ.get(PARENT_BIRTH_VARIABLE) or birth(int(named))
    parent = ProcessIdentity(int(named), recorded or "")
    threading.Thread(target=_die_after, args=(parent,), name="follow-parent", daemon=True).start()


def _die_after(parent: ProcessIdentity) -> None:
    wait_for_end(parent)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_end(process: ProcessIdentity) -> None:
    """Return when the process has ended: at once if it has already, whatever has its pid now."""
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        if process.lives():
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
        os.close(descriptor)
        return
    while process.lives():
        time.sleep(_POLL_S)
