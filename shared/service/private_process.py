"""Keeps other processes of the same user out of this one's memory, its environment and its open files.

Linux lets each process of a user read `/proc/<pid>/environ` and `/proc/<pid>/mem` of all others that are *dumpable*.
A helper that a template, a grammar or a user's program has taken over would find the secrets of its parent there.
What stays open to all: `/proc/<pid>/stat` and `statm`, so a process's identity and memory in use; signals, so stacks.
Debuggers such as py-spy and gdb need root then. A program that is started by `exec` begins dumpable.
"""

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def keep_private() -> None:
    """Close this process to all but root. Does nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
