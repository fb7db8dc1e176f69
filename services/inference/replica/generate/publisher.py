"""Publishes frames in order, without delaying the engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import structlog

from services.inference.engine.engine import end_process
from shared.bus import rpc
from shared.bus.port import Bus
from shared.contracts.gateway import FrameBatch, frames_subject
from shared.errors import LlmosError
from shared.service.background import background

_log = structlog.get_logger("llmos.replica")


class Publisher:
    """Publishes batches in the order they were given. Use within `running`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.waiting = 0
        """Batches in the queue or being published from it."""
        self._queue: asyncio.Queue[tuple[str, FrameBatch]] = asyncio.Queue()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Publish what the queue gets while inside; leaving flushes the queue."""
        async with background(self._run(), "publish frames", on_failure=end_process):
            try:
                yield self
            finally:
                await self._queue.join()

    def send(self, gateway_id: str, batch: FrameBatch) -> None:
        """Publish a batch at once if the bus can, else through the queue, like all batches after it.

        The queue holds the batches of a few steps: as many as the engine makes while one publish lasts.
        """
        if self.waiting or not self._bus.try_publish(frames_subject(gateway_id), batch.encode()):
            self.waiting += 1
            self._queue.put_nowait((gateway_id, batch))

    async def _run(self) -> None:
        while True:
            gateway_id, batch = await self._queue.get()
            try:
                await rpc.publish(self._bus, frames_subject(gateway_id), batch)
            except LlmosError as error:
                # The gateway sees the gap in the sequence numbers and resumes.
                _log.warning("frames.not_sent", gateway=gateway_id, frames=len(batch.frames), error=error.message)
            self.waiting -= 1
            self._queue.task_done()
