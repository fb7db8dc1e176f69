"""What both adapters promise about buckets."""

import asyncio

import pytest

from shared.bus.port import MAX_RECORD, KeyValue, KvEntry, KvEvent, KvOperation, Watch
from shared.errors import Conflict, InvalidInput, PayloadTooLarge, StorageFull
from tests.support.harness.buses import Buses, unique
from tests.support.harness.wait import eventually

SYNCED = KvEvent(KvOperation.SYNCED)


@pytest.fixture
async def bucket(buses: Buses) -> KeyValue:
    return (await buses.connect()).kv(unique("B"))


async def next_events(events: Watch, count: int) -> list[KvEvent]:
    """The next `count` events."""
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


async def test_what_was_put_is_read_back(bucket: KeyValue) -> None:
    revision = await bucket.put("models/smollm2", b"one")
    assert await bucket.get("models/smollm2") == KvEntry("models/smollm2", b"one", revision)
    assert await bucket.put("models/smollm2", b"") > revision
    found = await bucket.get("models/smollm2")
    assert found is not None
    assert found.value == b""


async def test_a_missing_key_is_none(bucket: KeyValue) -> None:
    assert await bucket.get("nothing") is None
    await bucket.put("nothing", b"x")
    await bucket.delete("nothing")
    assert await bucket.get("nothing") is None


async def test_create_refuses_an_existing_key_and_takes_a_deleted_one(bucket: KeyValue) -> None:
    await bucket.create("k", b"1")
    with pytest.raises(Conflict):
        await bucket.create("k", b"2")
    await bucket.delete("k")
    revision = await bucket.create("k", b"3")
    assert await bucket.get("k") == KvEntry("k", b"3", revision)


async def test_update_needs_the_current_revision(bucket: KeyValue) -> None:
    first = await bucket.create("k", b"1")
    second = await bucket.update("k", b"2", first)
    with pytest.raises(Conflict):
        await bucket.update("k", b"3", first)
    assert await bucket.get("k") == KvEntry("k", b"2", second)


async def test_update_of_a_deleted_key_is_a_conflict(bucket: KeyValue) -> None:
    revision = await bucket.create("k", b"1")
    await bucket.delete("k")
    with pytest.raises(Conflict):
        await bucket.update("k", b"2", revision)


async def test_one_of_many_racing_updates_wins(buses: Buses) -> None:
    name = unique("B")
    buckets = [(await buses.connect()).kv(name) for _ in range(5)]
    revision = await buckets[0].create("k", b"")
    results = await asyncio.gather(
        *(bucket.update("k", str(number).encode(), revision) for number, bucket in enumerate(buckets)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 4


async def test_racing_first_uses_make_one_bucket(buses: Buses) -> None:
    name = unique("B")
    buckets = [(await buses.connect()).kv(name, ttl=60) for _ in range(5)]
    await asyncio.gather(*(bucket.put(f"k{number}", b"v") for number, bucket in enumerate(buckets)))
    assert [entry.key for entry in await buckets[0].entries()] == ["k0", "k1", "k2", "k3", "k4"]


async def test_delete_at_a_revision(bucket: KeyValue) -> None:
    first = await bucket.put("k", b"1")
    second = await bucket.put("k", b"2")
    with pytest.raises(Conflict):
        await bucket.delete("k", first)
    await bucket.delete("k", second)
    await bucket.delete("k", second)
    await bucket.delete("never")
    assert await bucket.entries() == []


async def test_entries_are_sorted_by_key(bucket: KeyValue) -> None:
    assert await bucket.entries() == []
    for key in ("b", "a", "c.d"):
        await bucket.put(key, key.encode())
    await bucket.delete("b")
    assert [(entry.key, entry.value) for entry in await bucket.entries()] == [("a", b"a"), ("c.d", b"c.d")]


async def test_entries_can_be_those_that_match_a_pattern(bucket: KeyValue) -> None:
    for key in ("a.b", "a.b.c", "a.d", "e.b", "a"):
        await bucket.put(key, b"v")
    assert [entry.key for entry in await bucket.entries("a.*")] == ["a.b", "a.d"]
    assert [entry.key for entry in await bucket.entries("a.b.>")] == ["a.b.c"]
    assert await bucket.entries("x.>") == []


async def test_a_full_bucket_refuses_more_until_something_is_deleted(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("B"), max_bytes=64 << 10)
    await bucket.put("first", bytes(40 << 10))
    with pytest.raises(StorageFull):
        await bucket.put("second", bytes(40 << 10))
    with pytest.raises(StorageFull):
        await bucket.create("second", bytes(40 << 10))
    assert [entry.key for entry in await bucket.entries()] == ["first"]
    await bucket.delete("first")
    await bucket.put("second", bytes(40 << 10))


async def test_invalid_keys_and_buckets_are_refused(buses: Buses, bucket: KeyValue) -> None:
    for key in ("", "a b", "a..b", ".a", "a.", "a*", "ä"):
        with pytest.raises(InvalidInput):
            await bucket.put(key, b"")
        with pytest.raises(InvalidInput):
            await bucket.get(key)
    with pytest.raises(InvalidInput):
        (await buses.connect()).kv("no.dots")


async def test_a_value_too_large_for_a_record_is_refused(bucket: KeyValue) -> None:
    await bucket.put("k", bytes(MAX_RECORD))
    with pytest.raises(PayloadTooLarge, match=str(MAX_RECORD)):
        await bucket.put("k", bytes(MAX_RECORD + 1))


async def test_watch_reads_the_entries_then_synced_then_changes(buses: Buses) -> None:
    name = unique("B")
    writer, reader = (await buses.connect()).kv(name), (await buses.connect()).kv(name)
    a, b = await writer.put("a", b"1"), await writer.put("b", b"2")
    await writer.put("gone", b"")
    await writer.delete("gone")
    async with reader.watch() as events:
        assert not events.fresh
        assert await next_events(events, 3) == [
            KvEvent(KvOperation.PUT, "a", b"1", a),
            KvEvent(KvOperation.PUT, "b", b"2", b),
            SYNCED,
        ]
        assert events.fresh
        c = await writer.put("a", b"3")
        await writer.delete("b")
        put, delete = await next_events(events, 2)
        assert put == KvEvent(KvOperation.PUT, "a", b"3", c)
        assert (delete.operation, delete.key) == (KvOperation.DELETE, "b")


async def test_watch_of_an_empty_bucket_is_synced_at_once(bucket: KeyValue) -> None:
    async with bucket.watch() as events:
        assert await next_events(events, 1) == [SYNCED]


async def test_watch_of_a_bucket_where_all_was_deleted_is_synced(bucket: KeyValue) -> None:
    await bucket.put("k", b"")
    await bucket.delete("k")
    async with bucket.watch() as events:
        assert await next_events(events, 1) == [SYNCED]


async def test_watch_keeps_the_order_of_many_changes(buses: Buses) -> None:
    name = unique("B")
    writer, reader = (await buses.connect()).kv(name), (await buses.connect()).kv(name)
    async with reader.watch() as events:
        await next_events(events, 1)
        for number in range(300):
            await writer.put(f"k{number % 7}", str(number).encode())
        assert [int(event.value) for event in await next_events(events, 300)] == list(range(300))


async def test_many_watchers_read_the_same(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("B"))
    async with bucket.watch() as one, bucket.watch() as two:
        await bucket.put("k", b"v")
        for events in (one, two):
            seen = await next_events(events, 2)
            assert {event.operation for event in seen} == {KvOperation.PUT, KvOperation.SYNCED}


async def test_entries_vanish_when_they_are_not_rewritten(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("B"), ttl=0.5)
    await bucket.put("old", b"")

    async def old_is_gone() -> bool:
        await bucket.put("renewed", b"")
        return [entry.key for entry in await bucket.entries()] == ["renewed"]

    await eventually(old_is_gone)
    assert await bucket.get("old") is None
    await bucket.create("old", b"again")


async def test_a_reader_need_not_know_the_time_to_live(buses: Buses) -> None:
    name = unique("B")
    reader, writer = (await buses.connect()).kv(name), (await buses.connect()).kv(name, ttl=0.3)
    await reader.entries()
    await writer.put("k", b"")
    assert await reader.get("k") is not None

    async def gone() -> bool:
        return await reader.get("k") is None

    await eventually(gone)
