"""Which events are listed and followed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from shared.audit.reading import Cursor, EventFilter, EventReader
from shared.audit.trail import Trail
from shared.bus.memory.bus import MemoryBus
from shared.contracts.events import CHAINS
from shared.errors import InvalidInput

BEGIN = datetime(2026, 11, 30, tzinfo=UTC)


class Clock:
    """A minute later at each look."""

    def __init__(self) -> None:
        self.time = BEGIN

    def __call__(self) -> datetime:
        self.time += timedelta(minutes=1)
        return self.time


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus()
    yield bus
    await bus.drain()


async def fill(bus: MemoryBus, count: int) -> None:
    now = Clock()
    scheduler = Trail(bus, CHAINS["scheduler"], actor="s", now=now)
    keys = Trail(bus, CHAINS["keys"], actor="g", now=now)
    for number in range(count):
        await scheduler.record("deployment.changed", f"d{number}", by="key-1")
        await keys.record("key.created", f"k{number}", by="key-2")


async def names(bus: MemoryBus, limit: int = 1000, **chosen: object) -> list[str]:
    events, _ = await EventReader(bus).newest(EventFilter(**chosen), limit)  # type: ignore[arg-type]
    return [event.name for event in events]


async def test_the_newest_of_all_streams_come_first(bus: MemoryBus) -> None:
    await fill(bus, 3)
    assert await names(bus, 4) == ["k2", "d2", "k1", "d1"]


async def test_each_filter_leaves_out_the_rest(bus: MemoryBus) -> None:
    await fill(bus, 2)
    assert await names(bus, by="key-2") == ["k1", "k0"]
    assert await names(bus, service="keys") == ["k1", "k0"]
    assert await names(bus, kind="deployment") == await names(bus, kind="deployment.changed") == ["d1", "d0"]
    assert await names(bus, kind="deploy") == []
    assert await names(bus, name="d1") == ["d1"]
    assert await names(bus, since=BEGIN + timedelta(minutes=3)) == ["k1", "d1"]
    assert await names(bus, until=BEGIN + timedelta(minutes=3)) == ["k0", "d0"]


async def test_a_filter_looks_behind_the_first_page(bus: MemoryBus) -> None:
    await fill(bus, 1)
    scheduler = Trail(bus, CHAINS["scheduler"], actor="s")
    for number in range(600):
        await scheduler.record("node.joined", f"n{number}")
    assert await names(bus, kind="deployment") == ["d0"]


async def test_a_follower_gets_what_comes_once_and_goes_on_from_a_cursor(bus: MemoryBus) -> None:
    await fill(bus, 1)
    reader = EventReader(bus)
    _, cursor = await reader.newest(EventFilter(), 1)
    keys = Trail(bus, CHAINS["keys"], actor="g")
    await keys.record("key.created", "first")
    following = reader.follow(EventFilter(service="keys"), cursor)
    async with asyncio.timeout(10):
        event, after = await anext(following)
        assert event.name == "first"
        await keys.record("key.created", "second")
        event, _ = await anext(following)
        assert event.name == "second"
        event, _ = await anext(reader.follow(EventFilter(), Cursor.parse(str(after))))
        assert event.name == "second"


@pytest.mark.parametrize("text", ["", "1", "1-2", "1-2-x", "1-2-3-4", "1-2-" + "9" * 30])
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="after must be the cursor"):
        Cursor.parse(text)


async def test_a_check_of_all_chains_finds_what_was_altered(bus: MemoryBus) -> None:
    await fill(bus, 3)
    reader, now = EventReader(bus), datetime.now(UTC)
    sound = await reader.verify({}, now)
    assert sound.sound
    assert {chain.chain: chain.last for chain in sound.chains if chain.last} == {"scheduler": 3, "keys": 3}
    stream = bus.broker.streams["LLMOS_EVENTS"]
    del stream.messages[1]
    found = await reader.verify({}, now)
    assert [chain.findings for chain in found.chains if chain.findings] == [("event 2 is missing",)]
