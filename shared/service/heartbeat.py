"""The heartbeat of a process: whether it is ready, every second."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from shared.bus import rpc
from shared.contracts.monitor import DiskSpace, Heartbeat, health_subject
from shared.deadlines import HEARTBEAT_S
from shared.disk import Disk
from shared.service import health_file
from shared.service.background import background
from shared.service.context import Context
from shared.version import llmos_version


class HeartbeatPublisher:
    """Publishes a heartbeat every second, at once when readiness changes, and a last one that says goodbye.

    Args:
        context: The process.
        file: Written with each heartbeat; see `health_file`.
    """

    def __init__(self, context: Context, file: Path | None = None) -> None:
        self._context = context
        self._file = file
        self._started_at = datetime.now(UTC)
        self._version = llmos_version()
        self._changed = asyncio.Event()
        self._process = psutil.Process()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["HeartbeatPublisher"]:
        """Publish while inside."""
        self._context.readiness.listen(self._changed.set)
        try:
            async with background(self._publish_for_ever(), "heartbeat"):
                yield self
        finally:
            await self._publish(leaving=True)

    async def _publish_for_ever(self) -> None:
        while True:
            self._changed.clear()
            await self._publish()
            with suppress(TimeoutError):  # asyncio.timeout, since wait_for may swallow a cancellation
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._changed.wait()

    async def _publish(self, *, leaving: bool = False) -> None:
        context = self._context
        reasons = context.readiness.reasons
        if self._file is not None:
            health_file.write(self._file, ("leaving",) if leaving else reasons)
        message = Heartbeat(
            service=context.name,
            instance=context.instance,
            pid=os.getpid(),
            ready=not reasons and not leaving,
            reasons=reasons,
            started_at=self._started_at,
            version=self._version,
            memory=self._process.memory_info().rss,
            leaving=leaving,
            disk=_space(context.disk),
        )
        await rpc.publish(context.bus, health_subject(context.name, context.instance), message)


def _space(disk: Disk) -> DiskSpace | None:
    state = disk.look()
    if state is None:
        return None
    return DiskSpace(
        folder=str(state.folder),
        free=state.free,
        total=state.total,
        stopped=tuple(map(str, state.stopped)),
        why=state.summary or "",
    )
