"""Waiting for a condition, never for luck."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")


async def eventually(
    predicate: Callable[[], Value | Awaitable[Value]], timeout: float = 10.0, *, every: float = 0.02
) -> Value:
    """Call `predicate` (plain or async) until it answers something true, and answer that.

    Fails with `AssertionError`, naming the predicate and its last answer, after `timeout` seconds.
    An `AssertionError` from the predicate counts as "not yet".
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            answer = predicate()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            message = f"{inspect.getsource(predicate).strip()} was not true within {timeout} s: {last!r}"
            raise AssertionError(message)
        await asyncio.sleep(every)
