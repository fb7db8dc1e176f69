"""The parent's side of a worker (`worker`): a process for work that must not take the parent's time or memory."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import structlog

from shared.errors import Draining
from shared.service.environment import public
from shared.service.python import python_module, safe_path
from shared.service.worker import LENGTH

_log = structlog.get_logger("llmos.worker")


class WorkerKilled(Exception):
    """The worker ended while it worked on the request: the kernel enforced a limit, or it crashed."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the worker ended with exit code {exit_code}")
        self.out_of_time = exit_code == -signal.SIGPROF
        """Whether the limit was processor time; otherwise it was most likely memory."""


class WorkerProcess:
    """Sends requests to a worker process, one at a time. Use within `running`.

    The first request starts the process; a process that ended is replaced.

    Args:
        module: What `python -m` runs; it calls `worker.serve`.
        cpu_limit_s: Processor seconds that one request may take.
        memory_limit: Bytes of address space that the process may have.
        niceness: The process's own, from 0 to 19 (the lowest priority), when it works. It starts without: beside busy
            processes its imports would take many seconds.
    """

    def __init__(self, module: str, *, cpu_limit_s: float, memory_limit: int, niceness: int = 0) -> None:
        self._module = module
        self._limits = (str(cpu_limit_s), str(memory_limit), str(niceness))
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._closed = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Accept requests while inside; leaving ends the process."""
        try:
            yield self
        finally:
            async with self._lock:
                self._closed = True
                await self._stop()

    async def request(self, data: bytes) -> bytes:
        """The worker's response.

        Raises:
            WorkerKilled: The request exceeds the worker's limits.
            Draining: `running` was left.
        """
        async with self._lock:
            if self._closed:
                raise Draining("this replica is draining; try another replica")
            try:
                return await self._try(data)
            except WorkerKilled as error:
                if error.out_of_time:
                    raise
            return await self._try(data)  # the process may have ended before this request

    async def _try(self, data: bytes) -> bytes:
        try:
            if self._process is None:
                self._process = await self._start()
            return await _exchange(self._process, data)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            code = await self._stop()
            _log.warning("worker.died", module=self._module, exit_code=code, request_bytes=len(data))
            raise WorkerKilled(code) from error
        except asyncio.CancelledError:
            await self._stop()  # its response would be read as that of the next request
            raise

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *python_module(self._module, *self._limits), stdin=PIPE, stdout=PIPE, env=safe_path(public(os.environ))
        )

    async def _stop(self) -> int:
        """End the process, if there is one; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            # Not process.kill(): it would reap a worker that just died, and its exit code would be lost.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return await process.wait()


async def _exchange(process: Process, data: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LENGTH.pack(len(data)) + data)
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    return await process.stdout.readexactly(length)
