"""Frames to the bus, in order, without holding up the engine."""

import asyncio
from types import TracebackType
from typing import Self

import structlog

from services.inference.replica.background import end_if_failed
from shared.bus import rpc
from shared.bus.port import Bus
from shared.contracts.gateway import FrameBatch, frames_subject
from shared.errors import LlmosError

log = structlog.get_logger("llmos.replica")


class Publisher:
    """Publishes batches in the order they were given. Use as an async context manager; leaving it flushes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.waiting = 0
        """Batches in the queue or on their way from it."""
        self._queue: asyncio.Queue[tuple[str, FrameBatch] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="publish frames")
        self._task.add_done_callback(end_if_failed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._queue.put_nowait(None)
        await self._task

    def send(self, gateway_id: str, batch: FrameBatch) -> None:
        """Publish a batch: at once where the bus can, else from a queue, as all that come behind it.

        The queue holds what the engine makes while one publish lasts: a few steps.
        """
        if self.waiting or not self._bus.try_publish(frames_subject(gateway_id), batch.encode()):
            self.waiting += 1
            self._queue.put_nowait((gateway_id, batch))

    async def _run(self) -> None:
        while (item := await self._queue.get()) is not None:
            gateway_id, batch = item
            try:
                await rpc.publish(self._bus, frames_subject(gateway_id), batch)
            except LlmosError as error:
                # The gateway sees the gap in the sequence numbers and resumes.
                log.warning("frames_not_sent", gateway=gateway_id, frames=len(batch.frames), error=error.message)
            self.waiting -= 1
