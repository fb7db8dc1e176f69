"""The main loop of a worker: one request after another from stdin, each within limits of processor time and memory.

`WorkerProcess` starts `python -m MODULE CPU_SECONDS MEMORY_BYTES NICENESS`. Work that a client controls can run
for any time in one instruction, where no Python code can interrupt it. So the kernel limits it: a timer's signal
ends the process, and the address space is bounded. A worker ends with its parent, because its pipe closes or its
timer runs out.

Messages in both directions are their length in four bytes, then their bytes.
"""

import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

LENGTH = struct.Struct(">I")
"""Bytes of the message that follows."""


def serve(respond: Callable[[bytes], bytes]) -> None:
    """Respond to each request until the pipe closes."""
    cpu_limit_s, memory_limit, niceness = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.nice(niceness)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which needs its workers while it drains
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (request := read_message(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
        response = respond(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(LENGTH.pack(len(response)) + response)
        sys.stdout.buffer.flush()


def read_message(stream: BinaryIO) -> bytes | None:
    """The next message, or None at the end of the stream."""
    head = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None
