"""Something asynchronous beside a test that is not: hypothesis calls plain functions."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

Value = TypeVar("Value")

STARTED_S = 30.0


@contextmanager
def in_thread(manager: AbstractAsyncContextManager[Value]) -> Iterator[Value]:
    """Enter `manager` in an event loop of its own, in a thread, while the block runs."""
    ready, stop = threading.Event(), asyncio.Event()
    values: list[Value] = []
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with manager as value:
            values.append(value)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        assert ready.wait(STARTED_S), "it did not start"
        yield values[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STARTED_S)
        loop.close()
