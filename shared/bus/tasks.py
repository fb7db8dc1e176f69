"""Cancellation that is not lost.

`asyncio.wait_for` in Python 3.11, on which nats-py's requests stand, swallows a cancellation that comes in the same
moment as the result; nats-py itself swallows one while it flushes.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

CANCEL_AGAIN_S = 1.0

Result = TypeVar("Result")


async def end(task: "asyncio.Task[Any] | None") -> None:
    """Cancel the task, again if need be, and wait for it; what it raises is left in it."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)


async def cancellable(work: Awaitable[Result]) -> Result:
    """Await `work`; a cancellation that it swallows is raised behind it."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    result = await work
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return result
