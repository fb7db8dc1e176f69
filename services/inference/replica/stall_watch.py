"""Says that the replica's engine has stalled: in its record, in its heartbeats and in its log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from services.inference.engine.engine import end_process
from shared.deadlines import LOAD_REPORT_S
from shared.service import stacks
from shared.service.background import background
from shared.service.readiness import Readiness

_log = structlog.get_logger("llmos.replica")


class StallStatus(Protocol):
    """Where a stall is written; `StatusLease` is one."""

    def report_stall(self, message: str | None) -> Awaitable[None]:
        """Say that the replica has stalled and why, or with None that it has not."""
        ...


class StallWatch:
    """Looks at the engine twice a second.

    Args:
        stalled_s: Seconds without a step if the engine has stalled, else 0.
        status: Gets each change.
        readiness: Of the process; a stalled replica is not ready.
        dump: Called at the beginning of a stall. (The agent asks for a second dump before it ends the process: the
            two show whether the thread has moved.)
    """

    def __init__(
        self,
        stalled_s: Callable[[], float],
        status: StallStatus,
        readiness: Readiness,
        *,
        dump: Callable[[], None] = stacks.dump,
    ) -> None:
        self._stalled_s = stalled_s
        self._status = status
        self._readiness = readiness
        self._dump = dump
        self._stalled = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look every `LOAD_REPORT_S` seconds while inside."""
        async with background(self._run(), "stall watch", on_failure=end_process):
            yield

    async def check(self) -> None:
        """Look now, and report a change."""
        seconds = self._stalled_s()
        if bool(seconds) == self._stalled:
            return
        self._stalled = bool(seconds)
        message = f"its engine has work and made no step for {seconds:.0f} s" if self._stalled else None
        self._readiness.set("engine", message)
        if self._stalled:
            _log.error("engine.stalled", seconds=round(seconds, 1), next="the stacks of all threads follow")
            self._dump()
        else:
            _log.warning("engine.recovered")
        await self._status.report_stall(message)

    async def _run(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(LOAD_REPORT_S)
