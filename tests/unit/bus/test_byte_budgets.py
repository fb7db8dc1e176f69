"""How many unanswered bytes one process sends to one subject."""

import asyncio

from shared.bus.nats.budget import FREE, ByteBudgets

LIMIT = 10 * FREE


async def test_bytes_without_an_answer_never_exceed_the_limit_and_all_are_sent_in_order() -> None:
    budgets, under_way, most, order = ByteBudgets(LIMIT), 0, 0, []

    async def send(number: int) -> None:
        nonlocal under_way, most
        async with budgets.holding("a", 3 * FREE):
            order.append(number)
            under_way += 3 * FREE
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 3 * FREE

    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(send(number))
    assert most == 9 * FREE
    assert order == list(range(50))


async def test_small_requests_and_other_subjects_do_not_wait() -> None:
    budgets = ByteBudgets(LIMIT)
    large = budgets.holding("a", 2 * LIMIT)  # larger than the limit: sent alone
    async with asyncio.timeout(5), large, budgets.holding("a", FREE), budgets.holding("b", LIMIT):
        pass


async def test_one_that_is_cancelled_while_it_waits_leaves_its_place_to_the_next() -> None:
    budgets = ByteBudgets(LIMIT)
    entered: list[str] = []

    async def send(name: str) -> None:
        async with budgets.holding("a", LIMIT):
            entered.append(name)

    async with budgets.holding("a", LIMIT):
        impatient, patient = asyncio.create_task(send("impatient")), asyncio.create_task(send("patient"))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait((impatient,))
        assert entered == []
    await patient
    assert entered == ["patient"]
    async with asyncio.timeout(5), budgets.holding("a", LIMIT):
        pass


async def test_one_that_is_cancelled_in_its_turn_gives_the_turn_back() -> None:
    budgets = ByteBudgets(LIMIT)

    async def send() -> None:
        async with budgets.holding("a", LIMIT):
            raise AssertionError("it was cancelled")

    async with budgets.holding("a", LIMIT):
        waiting = asyncio.create_task(send())
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    async with asyncio.timeout(5), budgets.holding("a", LIMIT):
        pass
