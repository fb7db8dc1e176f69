"""Work is done one piece at a time, in turns between tenants, and no turn is lost."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.turns import Turns
from shared.errors import Overloaded


class Workshop:
    """Does work on a clock of its own, and notes for whom, in order."""

    def __init__(self, **options: object) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.charged: Counter[str] = Counter()
        self.inside = 0
        self.turns = Turns("texts", charge=self._charge, clock=lambda: self.now, **options)  # type: ignore[arg-type]

    def _charge(self, tenant: str, seconds: float) -> None:
        self.charged[tenant] += seconds

    async def work(self, tenant: str, seconds: float = 1.0) -> None:
        async with self.turns.turn(tenant):
            self.inside += 1
            assert self.inside == 1, "two have the turn"
            self.order.append(tenant)
            try:
                await asyncio.sleep(0)
                self.now += seconds
            finally:
                self.inside -= 1


def started(*work):
    return [asyncio.ensure_future(each) for each in work]


async def test_one_request_waits_for_one_of_a_flood():
    shop = Workshop()
    flood = started(*[shop.work("flood") for _ in range(100)])
    await asyncio.sleep(0)
    await shop.work("late")
    assert shop.order.index("late") <= 2
    await asyncio.gather(*flood)
    assert shop.order.count("flood") == 100


async def test_tenants_with_short_texts_have_as_much_time_as_one_with_long_texts():
    shop = Workshop()
    work = started(*[shop.work("long", 10.0) for _ in range(10)], *[shop.work("short", 1.0) for _ in range(50)])
    await asyncio.gather(*work)
    half = shop.order[: shop.order.index("long", 3) + 30]
    assert half.count("short") >= 10 * (half.count("long") - 2)
    assert shop.charged == {"long": 100.0, "short": 50.0}


async def test_a_tenants_own_requests_keep_their_order():
    shop, order = Workshop(), []

    async def numbered(number):
        async with shop.turns.turn("a"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*[numbered(number) for number in range(20)])
    assert order == list(range(20))


async def test_a_flood_has_half_of_the_places_and_another_tenant_finds_one():
    shop = Workshop(places=8)
    flood = started(*[shop.work("flood") for _ in range(20)])
    await asyncio.sleep(0)
    other = asyncio.ensure_future(shop.work("other"))
    done = await asyncio.gather(*flood, return_exceptions=True)
    refused = [error for error in done if error is not None]
    assert len(refused) == 20 - 1 - 4  # one has the turn, four wait
    assert {type(error) for error in refused} == {Overloaded}
    await other


async def test_a_refusal_names_the_field_that_makes_the_work():
    shop = Workshop(places=2)
    flood = started(*[shop.work("a") for _ in range(3)])
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="texts wait already") as error:
        async with shop.turns.turn("a", param="response_format"):
            pass
    assert (error.value.param, error.value.retry_after) == ("response_format", 1.0)
    await asyncio.gather(*flood, return_exceptions=True)


async def test_long_turns_of_low_priority_count_up_to_a_bound():
    shop = Workshop(most_s=2.0)
    await shop.work("a", 60.0)
    assert shop.charged == {"a": 2.0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=12), st.randoms())
def test_whoever_leaves_or_fails_passes_the_turn_on(requests, random):
    async def scenario():
        shop = Workshop()

        async def failing(tenant):
            async with shop.turns.turn(tenant):
                await asyncio.sleep(0)
                raise RuntimeError

        tasks = started(*[failing(tenant) if fails else shop.work(tenant) for tenant, fails, _ in requests])
        leaving = [task for task, (_, _, leaves) in zip(tasks, requests, strict=True) if leaves]
        random.shuffle(leaving)
        for task in leaving:
            await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, RuntimeError | asyncio.CancelledError) for result in results)
        assert shop.turns.waiting == 0
        await asyncio.wait_for(shop.work("next"), 5)
        assert not shop.turns._taken
        assert not shop.turns._present

    asyncio.run(scenario())
