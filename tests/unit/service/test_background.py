"""A task beside a block ends with the block, and its failure is never silent."""

import asyncio

import pytest

from shared.service.background import background


async def until_cancelled(log: list[str]) -> None:
    log.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        log.append("ended")


async def failing() -> None:
    await asyncio.sleep(0)
    raise ValueError("broken")


async def test_the_task_has_ended_when_the_block_is_left():
    log: list[str] = []
    async with background(until_cancelled(log), "wait"):
        await asyncio.sleep(0)
        assert log == ["began"]
    assert log == ["began", "ended"]


async def test_a_task_may_return_before_the_block():
    async with background(asyncio.sleep(0), "short"):
        await asyncio.sleep(0.01)


async def test_a_failure_ends_the_block():
    with pytest.raises(ExceptionGroup) as caught:
        async with background(failing(), "fail"):
            await asyncio.Event().wait()
    assert caught.group_contains(ValueError, match="broken")


async def test_a_failure_is_handed_over_and_the_block_goes_on():
    failures: list[BaseException] = []
    async with background(failing(), "fail", on_failure=failures.append):
        await asyncio.sleep(0.01)
    assert [str(failure) for failure in failures] == ["broken"]


async def test_an_error_of_the_block_passes_through():
    log: list[str] = []

    async def block() -> None:
        async with background(until_cancelled(log), "wait"):
            await asyncio.sleep(0)
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await block()
    assert log == ["began", "ended"]


async def test_a_cancelled_block_cancels_its_task():
    log: list[str] = []
    inside = asyncio.Event()

    async def block() -> None:
        async with background(until_cancelled(log), "wait"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await inside.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["began", "ended"]
