"""Each message gets a task of its own, and no more of them run at once than allowed."""

import asyncio
import contextvars

import pytest

from shared.bus.handlers import HandlerTasks


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_handlers_run_at_once_than_allowed(concurrency: int) -> None:
    running, most, begun = 0, 0, []

    async def handle(item: int) -> None:
        nonlocal running, most
        begun.append(item)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    tasks = HandlerTasks(handle, concurrency, contextvars.copy_context())
    for item in range(20):
        await tasks.start(item)
    await tasks.finish()
    assert begun == list(range(20))
    assert most == concurrency


def test_at_least_one_handler_must_be_allowed() -> None:
    async def handle(_: int) -> None:
        pass

    with pytest.raises(ValueError, match="at least 1"):
        HandlerTasks(handle, 0, contextvars.copy_context())
