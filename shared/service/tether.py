"""Ties a program to the life of the process that starts it: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT…`.

With `-` for the parent's pid it is tied to whatever process starts it.

Run as a script, with the standard library alone. It asks the kernel for SIGKILL at the parent's death and becomes
the program by `exec`, which keeps this setting. So no program leaves an orphan (nats-server, for example), and no
Python code runs between the supervisor's fork and exec, where it might deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
_WHOEVER = "-"


def tethered(program: str, *arguments: str) -> list[str]:
    """The command that runs a program tied to the life of this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), program, *arguments]


def tethered_to_parent(program: str, *arguments: str) -> list[str]:
    """The command that runs a program tied to the life of the process that will start it."""
    return [sys.executable, "-I", "-S", __file__, _WHOEVER, program, *arguments]


def main() -> None:
    """Exits with 127 when the program cannot be started, as a shell does."""
    given, program = sys.argv[1], sys.argv[2:]
    parent = os.getppid() if given == _WHOEVER else int(given)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            sys.exit(f"cannot tie {program[0]} to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # the parent died before prctl
        sys.exit(f"the process {parent} that starts {program[0]} has ended")
    try:
        os.execvp(program[0], program)  # noqa: S606  # no shell is the point
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201  # there is no logger yet
        sys.exit(127)


if __name__ == "__main__":
    main()
