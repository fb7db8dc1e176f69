"""Compares the memory that a replica uses with its grant.

The grant is a reservation: the scheduler adds grants up, so that no node promises more memory than it has. A replica
above its grant goes on, because ending it would lose every running answer to an estimate that may be a few per cent
off; the limit of the machine or the container is the one that kills. The replica frees what it can, and reports the
excess in its status and its log.
"""

import asyncio
import ctypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import psutil
import structlog

from services.inference.engine.engine import end_process
from shared.service.background import background

CHECK_S = 5.0
_MIB = 1 << 20

_log = structlog.get_logger("llmos.replica")


class MemoryStatus(Protocol):
    """Where the memory in use is written; `StatusLease` is one."""

    def report_memory(self, *, memory: int, message: str) -> Awaitable[None]:
        """Report the bytes in use; `message` is empty while they are within the grant."""
        ...


def resident_bytes() -> int:
    """Bytes that this process and its helpers have resident.

    Mapped weights count in full in each replica, though replicas of one version share them: the result is an upper
    bound.
    """
    process = psutil.Process()
    total: int = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended
            continue
    return total


def give_back() -> None:
    """Return freed memory that the C library keeps to the system; does nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryWatch:
    """Compares what is used with the grant.

    Args:
        granted: Bytes; 0: no limit was given.
        status: Gets the result of each check.
        measure: Returns the bytes in use.
        give_back: Called once when the grant is exceeded, before it is measured again.
    """

    def __init__(
        self,
        granted: int,
        status: MemoryStatus,
        *,
        measure: Callable[[], int] = resident_bytes,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        self._granted = granted
        self._status = status
        self._measure = measure
        self._give_back = give_back
        self._exceeded = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check every `CHECK_S` seconds while inside."""
        async with background(self._run(), "memory watch", on_failure=end_process):
            yield

    async def check(self) -> None:
        """Measure now, and report."""
        used = await asyncio.to_thread(self._measure)
        if self._above(used):
            await asyncio.to_thread(self._give_back)
            used = await asyncio.to_thread(self._measure)
        exceeded = self._above(used)
        if exceeded and not self._exceeded:
            _log.warning("memory.above_grant", resident_bytes=used, granted_bytes=self._granted)
        elif self._exceeded and not exceeded:
            _log.info("memory.within_grant", resident_bytes=used, granted_bytes=self._granted)
        self._exceeded = exceeded
        await self._status.report_memory(memory=used, message=self._message(used) if exceeded else "")

    async def _run(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(CHECK_S)

    def _above(self, used: int) -> bool:
        return 0 < self._granted < used

    def _message(self, used: int) -> str:
        return (
            f"uses {used / _MIB:.0f} MiB of memory, {(used - self._granted) / _MIB:.0f} MiB above its grant; "
            "it goes on, but its node may run out: deploy it with fewer slots or a smaller prefix cache"
        )
