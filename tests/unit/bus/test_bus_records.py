import asyncio

import pytest

from shared.bus.memory.bus import MemoryBus
from shared.bus.port import KvEvent, KvOperation
from shared.bus.records import Records
from shared.contracts.scheduler import Leadership
from shared.errors import Conflict
from tests.support.harness.wait import eventually


def one(name: str) -> Leadership:
    return Leadership(holder=name)


@pytest.fixture
async def kv():
    bus = MemoryBus()
    yield bus.kv("LLMOS_TEST")
    await bus.drain()


@pytest.fixture
async def records(kv):
    changed = asyncio.Event()
    made = Records(kv, Leadership, changed.set)
    task = asyncio.create_task(made.follow())
    await eventually(lambda: made.synced)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_own_write_is_known_at_once_and_others_soon(kv, records):
    await records.write("a", one("first"))
    assert records.get("a") == one("first")
    await records.write("a", one("second"))
    assert records.values == {"a": one("second")}
    await kv.put("b", one("other").encode())
    await eventually(lambda: records.get("b") == one("other"))


async def test_old_news_do_not_undo_an_own_write_or_delete(kv, records):
    await records.write("a", one("first"))
    entry = await kv.get("a")
    await records.write("a", one("second"))
    records.apply(KvEvent(KvOperation.PUT, "a", entry.value, entry.revision))
    assert records.get("a") == one("second")
    await records.delete("a")
    records.apply(KvEvent(KvOperation.PUT, "a", one("second").encode(), entry.revision + 1))
    assert records.get("a") is None


async def test_a_write_on_top_of_a_faster_one_conflicts_and_then_knows_it(kv, records):
    await records.write("a", one("first"))
    await kv.put("a", one("faster").encode())  # the watch has not told it yet
    with pytest.raises(Conflict):
        await records.write("a", one("slower"))
    assert records.get("a") == one("faster")
    await records.write("a", one("now"))
    assert records.get("a") == one("now")


async def test_a_deleted_record_can_be_made_again(kv, records):
    await records.write("a", one("first"))
    await records.delete("a")
    await records.write("a", one("again"))
    await eventually(lambda: records.get("a") == one("again"))


async def test_a_record_that_does_not_parse_is_left_out(kv, records):
    await kv.put("bad", b"not json")
    await kv.put("good", one("good").encode())
    await eventually(lambda: records.values == {"good": one("good")})
