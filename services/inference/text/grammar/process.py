"""The replica's side of the process that tries grammars."""

import asyncio
import contextlib
import json
import os
import signal
from asyncio.subprocess import Process
from types import TracebackType
from typing import Self

import structlog

from services.inference.text.grammar.limits import CPU_LIMIT_S, MEMORY_LIMIT
from services.inference.text.grammar.source import GrammarSource
from services.inference.text.grammar.worker import LENGTH
from shared.errors import Draining
from shared.text.worker_process import end_worker, start_worker

_NICEST = 19

log = structlog.get_logger("llmos.replica")


class GrammarProcess:
    """Tries grammars in a worker process, one at a time; started by the first, replaced when it dies.

    Use as an async context manager.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        async with self._lock:
            self._closed = True
            await self._stop()

    async def check(self, source: GrammarSource) -> str | None:
        """Why the grammar does not compile within `CPU_LIMIT_S` seconds and `MEMORY_LIMIT` bytes, or None.

        Raises `Draining` once the process is closed.
        """
        async with self._lock:
            if self._closed:
                raise Draining("this replica is draining; try another replica")
            code, reason = await self._try(source.lark)
            if code not in {0, -signal.SIGPROF}:
                code, reason = await self._try(source.lark)  # it may have died idle
        if code == -signal.SIGPROF:
            limit = f"{CPU_LIMIT_S:g} s of processor time"
        elif code:
            limit = f"{MEMORY_LIMIT >> 20} MiB of memory"
        else:
            return reason
        return f"it is too complex: compiling it takes more than {limit}; simplify it"

    async def _try(self, lark: str) -> tuple[int, str | None]:
        """The worker's exit code, 0 if it lives, and its answer."""
        try:
            if self._process is None:
                self._process = await self._begin()
            return 0, await _ask(self._process, lark)
        except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError):
            code = await self._stop()
            log.warning("grammar_worker_died", exit_code=code, grammar_chars=len(lark))
            return code or -1, None
        except asyncio.CancelledError:
            await self._stop()  # its answer would be taken for the next one's
            raise

    @staticmethod
    async def _begin() -> Process:
        process = await start_worker("services.inference.text.grammar.worker")
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICEST)  # from its first import on: streams go first
        return process

    async def _stop(self) -> int:
        """End the worker, if there is one; its exit code."""
        process, self._process = self._process, None
        return await end_worker(process)


async def _ask(process: Process, lark: str) -> str | None:
    assert process.stdin is not None
    assert process.stdout is not None
    data = json.dumps(lark).encode()
    process.stdin.write(LENGTH.pack(len(data)) + data)
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    reason: str | None = json.loads(await process.stdout.readexactly(length))
    return reason
