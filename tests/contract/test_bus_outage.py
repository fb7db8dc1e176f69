"""What both adapters promise while the broker is gone (NATS: killed with -9), and when it is back."""

import asyncio

import pytest

from shared.bus.port import KvEvent, KvOperation, Message, Watch
from shared.errors import Disconnected
from tests.support.harness.buses import Buses
from tests.support.harness.wait import eventually


async def echo(message: Message) -> bytes:
    return message.data


async def next_events(events: Watch, count: int) -> list[KvEvent]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


async def restart(buses: Buses) -> None:
    await buses.stop()
    await buses.start()


async def test_while_down_publish_drops_and_the_rest_is_disconnected(mortal_buses: Buses) -> None:
    bus, seen = await mortal_buses.connect(), []
    bucket = bus.kv("B")
    stream = bus.stream("S", ["events.>"], max_bytes=1 << 20, max_age=60)

    await bus.subscribe("t", lambda message: seen.append(message.data))
    await mortal_buses.stop()
    assert not bus.connected
    await bus.publish("t", b"while down")
    assert not bus.try_publish("t", b"while down")
    await bus.publish("t", bytes(1_000_000))
    for refused in (
        bus.request("t", b"", timeout=5),
        bucket.put("k", b""),
        bucket.get("k"),
        bucket.entries(),
        stream.last(1),
    ):
        async with asyncio.timeout(1):
            with pytest.raises(Disconnected):
                await refused
    await mortal_buses.start()
    assert bus.connected
    await bus.publish("t", b"after")
    await eventually(lambda: seen == [b"after"])


async def test_a_request_on_its_way_fails_when_the_connection_is_lost(mortal_buses: Buses) -> None:
    bus, started, release = await mortal_buses.connect(), asyncio.Event(), asyncio.Event()

    async def responder(_: Message) -> bytes:
        started.set()
        await release.wait()
        return b""

    await bus.respond("t", responder)
    asking = asyncio.create_task(bus.request("t", b"", timeout=60))
    await started.wait()
    await mortal_buses.stop()
    async with asyncio.timeout(5):
        with pytest.raises(Disconnected):
            await asking
    release.set()


async def test_subscriptions_and_responders_are_there_again(mortal_buses: Buses) -> None:
    server, client, seen = await mortal_buses.connect(), await mortal_buses.connect(), []

    await server.respond("ask", echo, queue="q")
    gone = await server.respond("gone", echo)
    await server.subscribe("tell", lambda message: seen.append(message.data))
    await mortal_buses.stop()
    await gone.unsubscribe()
    await mortal_buses.start()
    assert await client.request("ask", b"hello", timeout=5) == b"hello"
    assert await client.request("ask", bytes(1_000_000), timeout=10) == bytes(1_000_000)
    await client.publish("tell", b"news")
    await eventually(lambda: seen == [b"news"])


async def test_buckets_and_events_survive(mortal_buses: Buses) -> None:
    bus, seen = await mortal_buses.connect(), []
    bucket = bus.kv("B")
    stream = bus.stream("S", ["events.>"], max_bytes=1 << 20, max_age=60)

    async def handler(message: Message) -> None:
        seen.append(message.data)

    revision = await bucket.put("k", b"v")
    await stream.consume(handler, durable="d")
    await bus.publish("events.a", b"1")
    await eventually(lambda: seen == [b"1"])
    await restart(mortal_buses)
    entry = await bucket.get("k")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"v", revision)
    assert await bucket.update("k", b"w", revision) > revision
    await bus.publish("events.a", b"2")
    await eventually(lambda: seen == [b"1", b"2"])


async def test_watch_goes_on_and_reads_the_bucket_again(mortal_buses: Buses) -> None:
    bus = await mortal_buses.connect()
    bucket = bus.kv("B")
    await bucket.put("a", b"1")
    async with bucket.watch() as events:
        assert [event.operation for event in await next_events(events, 2)] == [KvOperation.PUT, KvOperation.SYNCED]
        for round_ in range(2):
            await mortal_buses.stop()
            assert not events.fresh
            await mortal_buses.start()
            again = await next_events(events, 2)
            assert [(event.operation, event.key) for event in again] == [
                (KvOperation.PUT, "a"),
                (KvOperation.SYNCED, ""),
            ]
            assert events.fresh
            await bucket.put("later", str(round_).encode())
            change = (await next_events(events, 1))[0]
            assert (change.key, change.value) == ("later", str(round_).encode())
            await bucket.delete("later")
            assert (await next_events(events, 1))[0].operation is KvOperation.DELETE


async def test_a_watch_begun_while_down_starts_when_the_broker_is_back(mortal_buses: Buses) -> None:
    bus = await mortal_buses.connect()
    bucket = bus.kv("B")
    await bucket.put("a", b"1")
    await mortal_buses.stop()
    async with bucket.watch() as events:
        assert not events.fresh
        await mortal_buses.start()
        assert [event.operation for event in await next_events(events, 2)] == [KvOperation.PUT, KvOperation.SYNCED]


async def test_leaving_a_watch_while_down_does_not_hang(mortal_buses: Buses) -> None:
    bus = await mortal_buses.connect()
    async with asyncio.timeout(5), bus.kv("B").watch():
        await mortal_buses.stop()


async def test_drain_while_down_does_not_hang(mortal_buses: Buses) -> None:
    bus = await mortal_buses.connect()
    stream = bus.stream("S", ["events.>"], max_bytes=1 << 20, max_age=60)

    async def handler(message: Message) -> None:
        pass

    await bus.subscribe("t", lambda _: None)
    await stream.consume(handler, durable="d")
    await mortal_buses.stop()
    async with asyncio.timeout(5):
        await bus.drain()
        await bus.drain()
