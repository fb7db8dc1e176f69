"""Leases over both adapters: who lives, who is gone, and that an outage kills nobody."""

import asyncio

import pytest

from shared.bus.leases import Lease, LeaseTable
from tests.support.harness.buses import Buses, unique
from tests.support.harness.wait import eventually


class Clock:
    """Time that stands until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_held_lease_is_seen_and_its_end_too(buses: Buses) -> None:
    name = unique("L")
    holder, reader = (await buses.connect()).kv(name, ttl=5), (await buses.connect()).kv(name, ttl=5)
    async with LeaseTable(reader, 5, bytes.decode).running() as table:
        await table.wait_synced()
        assert table.live() == {}
        async with Lease(holder, "node-a", b"starting").running() as lease:
            await eventually(lambda: table.live() == {"node-a": "starting"})
            await lease.set(b"ready")
            await eventually(lambda: table.live() == {"node-a": "ready"})
        await eventually(lambda: table.live() == {})


async def test_what_another_process_wrote_is_left_alone_at_the_end(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("L"), ttl=5)
    async with Lease(bucket, "node-a", b"first", every=600).running():
        await bucket.put("node-a", b"successor")
    entry = await bucket.get("node-a")
    assert entry is not None
    assert entry.value == b"successor"


async def test_a_lease_is_renewed(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("L"), ttl=5)
    clock = Clock()
    async with (
        LeaseTable(bucket, 5, bytes.decode, clock=clock).running() as table,
        Lease(bucket, "a", b"v", every=0.02).running(),
    ):
        await eventually(lambda: table.live() == {"a": "v"})
        for _ in range(3):
            clock.now += 4
            entry = await bucket.get("a")

            async def renewed(before=entry) -> bool:
                now = await bucket.get("a")
                return now.revision > before.revision + 1

            await eventually(renewed)
            assert table.live() == {"a": "v"}


async def test_a_lease_that_is_not_renewed_is_gone_after_its_time(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("L"))
    clock = Clock()
    async with LeaseTable(bucket, 5, bytes.decode, clock=clock).running() as table:
        await bucket.put("a", b"v")
        await eventually(lambda: table.live() == {"a": "v"})
        clock.now = 5.0
        assert table.live() == {"a": "v"}
        clock.now = 5.1
        await eventually(lambda: table.live() == {})
        await bucket.put("a", b"back")
        await eventually(lambda: table.live() == {"a": "back"})


async def test_what_cannot_be_decoded_is_left_out(buses: Buses) -> None:
    bucket = (await buses.connect()).kv(unique("L"))
    await bucket.put("bad", b"\xff")
    await bucket.put("good", b"v")
    async with LeaseTable(bucket, 5, bytes.decode).running() as table:
        await table.wait_synced()
        assert table.live() == {"good": "v"}


@pytest.mark.parametrize("ttl", [None, 5.0])
async def test_nobody_expires_during_an_outage_and_for_one_time_to_live_after_it(
    mortal_buses: Buses, ttl: float | None
) -> None:
    """With a time to live the server has the bucket in memory, and comes back without the lease."""
    bucket = (await mortal_buses.connect()).kv("L", ttl=ttl)
    clock = Clock()
    async with LeaseTable(bucket, 5, bytes.decode, clock=clock).running() as table:
        await bucket.put("a", b"v")
        await eventually(lambda: table.live() == {"a": "v"})
        await mortal_buses.stop()
        clock.now = 100.0
        assert not table.fresh
        assert table.live() == {"a": "v"}
        await mortal_buses.start()
        assert table.live() == {"a": "v"}
        await eventually(lambda: table.fresh)
        assert table.live() == {"a": "v"}
        clock.now = 104.9
        assert table.live() == {"a": "v"}
        clock.now = 105.1
        await eventually(lambda: table.live() == {})


async def test_a_lease_survives_an_outage_with_the_value_set_during_it(mortal_buses: Buses) -> None:
    holder, reader = (await mortal_buses.connect()).kv("L", ttl=5), (await mortal_buses.connect()).kv("L", ttl=5)
    async with (
        LeaseTable(reader, 5, bytes.decode).running() as table,
        Lease(holder, "a", b"before", every=0.1).running() as lease,
    ):
        await eventually(lambda: table.live() == {"a": "before"})
        await mortal_buses.stop()
        await lease.set(b"during")
        assert table.live() == {"a": "before"}
        await mortal_buses.start()
        await eventually(lambda: table.live() == {"a": "during"})


async def test_giving_a_lease_up_while_down_does_not_hang(mortal_buses: Buses) -> None:
    bucket = (await mortal_buses.connect()).kv("L", ttl=5)
    async with asyncio.timeout(5), Lease(bucket, "a", b"v").running():
        await mortal_buses.stop()


async def test_a_lease_begun_while_down_is_held_when_the_broker_is_back(mortal_buses: Buses) -> None:
    bucket = (await mortal_buses.connect()).kv("L", ttl=5)
    await mortal_buses.stop()
    async with LeaseTable(bucket, 5, bytes.decode).running() as table, Lease(bucket, "a", b"v", every=0.05).running():
        await mortal_buses.start()
        await eventually(lambda: table.live() == {"a": "v"})
