"""Starting and ending the processes that do for a replica what may run wild: templates and grammars."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process


async def start_worker(module: str) -> Process:
    """Run `module` with pipes to it and from it, and nothing of the replica's settings in its environment."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=PIPE,
        stdout=PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")},  # no secrets
    )


async def end_worker(process: Process | None) -> int:
    """End a worker, if there is one; its exit code."""
    if process is None:
        return 0
    if process.returncode is None:
        # Not process.kill(): it would reap a worker that just died, and its exit code would be lost.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return await process.wait()
