"""How much memory a replica uses beside what it was granted.

The grant is a reservation: the scheduler adds grants up so that no node promises more than it has. A replica that
uses more is not ended for it, since every answer it is giving would be lost to an estimate that may be off by a few
per cent; the machine's own limit (a container's) is the one that kills. It gives back what it can, and says in its
status and its log that the estimate was wrong.
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

log = structlog.get_logger("llmos.replica")


class Teller(Protocol):
    """Where it is said; `StatusLease` is one."""

    def tell(self, *, memory: int, message: str) -> Awaitable[None]:
        """Say how many bytes are used and what is wrong with that; an empty message: nothing."""
        ...


def resident_bytes() -> int:
    """Bytes that this process and its helpers have resident.

    Mapped weights count in full in each replica, though replicas of one version share them: what is told is never
    too little.
    """
    process = psutil.Process()
    total: int = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:  # it ended meanwhile
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
        teller: Told after each look.
        measure: Answers the bytes in use.
        give_back: Called once when the grant is exceeded, before it is measured again.
    """

    def __init__(
        self,
        granted: int,
        teller: Teller,
        *,
        measure: Callable[[], int] = resident_bytes,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        self._granted = granted
        self._teller = teller
        self._measure = measure
        self._give_back = give_back
        self._exceeded = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look every `CHECK_S` seconds while inside."""
        async with background(self._run(), "memory watch", on_failure=end_process):
            yield

    async def look(self) -> None:
        """Measure now, and tell."""
        used = await asyncio.to_thread(self._measure)
        if self._above(used):
            await asyncio.to_thread(self._give_back)
            used = await asyncio.to_thread(self._measure)
        exceeded = self._above(used)
        if exceeded and not self._exceeded:
            log.warning("memory_above_grant", resident_bytes=used, granted_bytes=self._granted)
        elif self._exceeded and not exceeded:
            log.info("memory_within_grant_again", resident_bytes=used, granted_bytes=self._granted)
        self._exceeded = exceeded
        await self._teller.tell(memory=used, message=self._problem(used) if exceeded else "")

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(CHECK_S)

    def _above(self, used: int) -> bool:
        return 0 < self._granted < used

    def _problem(self, used: int) -> str:
        return (
            f"uses {used / _MIB:.0f} MiB of memory, {(used - self._granted) / _MIB:.0f} MiB above its grant; "
            "it goes on, but its node may run out: deploy it with fewer slots or a smaller prefix cache"
        )
