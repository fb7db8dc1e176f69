"""Tasks that run beside a block: `async with background(publish(), "heartbeat"): …`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from shared.bus.tasks import end
from shared.panics import STOPS


@asynccontextmanager
async def background(
    run: Coroutine[Any, Any, None], what: str, *, on_failure: Callable[[BaseException], None] | None = None
) -> AsyncIterator[None]:
    """Run a coroutine while inside; leaving cancels the coroutine and waits for its end.

    A failure of the coroutine is never silent. Errors of the block itself pass through unchanged.

    Args:
        run: The coroutine. If it returns, the block goes on without it.
        what: The task's name.
        on_failure: Called with the coroutine's error, at once; the block goes on. By default the block is cancelled.

    Raises:
        ExceptionGroup: With the coroutine's error, if there is no `on_failure`.
    """
    of_the_block: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run if on_failure is None else _reporting(run, on_failure), name=what)
        try:
            yield
        except Exception as error:  # noqa: BLE001  # raised below: the group would wrap it
            of_the_block = error
        finally:
            await end(task)
    if of_the_block is not None:
        raise of_the_block


async def _reporting(run: Coroutine[Any, Any, None], on_failure: Callable[[BaseException], None]) -> None:
    try:
        await run
    except STOPS:
        raise
    except BaseException as error:  # noqa: BLE001  # handed to `on_failure`
        on_failure(error)
