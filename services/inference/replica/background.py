"""Tasks that run as long as the replica."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from services.inference.engine.engine import end_process
from shared.bus.tasks import end


@asynccontextmanager
async def background(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run `work` while inside. A replica without one of its tasks would look alive: if it fails, the process ends."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(end_if_failed)
    try:
        yield
    finally:
        await end(task)


def end_if_failed(task: "asyncio.Task[None]") -> None:
    """For `add_done_callback`."""
    if not task.cancelled() and (error := task.exception()) is not None:
        end_process(error)
