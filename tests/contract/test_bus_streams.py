"""What both adapters promise about event streams."""

import asyncio

import pytest

from shared.bus.port import MAX_RECORD, EventStream, Message
from shared.errors import Conflict, InvalidInput, PayloadTooLarge
from tests.support.harness.buses import Buses, unique
from tests.support.harness.wait import eventually


def stream_of(bus, name: str, *, max_bytes: int = 1 << 20, max_age: float = 60.0) -> EventStream:
    return bus.stream(name, [f"events.{name}.>"], max_bytes=max_bytes, max_age=max_age)


async def made(stream: EventStream) -> EventStream:
    await stream.last(0)
    return stream


async def test_a_consumer_gets_every_message_in_order(buses: Buses) -> None:
    bus, name, seen = await buses.connect(), unique("S"), []
    stream = await made(stream_of(bus, name))

    async def handler(message: Message) -> None:
        seen.append((message.subject.rsplit(".", 1)[-1], message.data))

    await bus.publish(f"events.{name}.a", b"before")
    await stream.consume(handler, durable="d")
    await bus.publish(f"events.{name}.b", b"after")
    await bus.publish("events.other.b", b"not here")
    await eventually(lambda: seen == [("a", b"before"), ("b", b"after")])


async def test_a_durable_consumer_goes_on_where_it_stopped(buses: Buses) -> None:
    bus, name, seen = await buses.connect(), unique("S"), []
    stream = await made(stream_of(bus, name))

    async def handler(message: Message) -> None:
        seen.append(message.data)

    first = await stream.consume(handler, durable="d")
    await bus.publish(f"events.{name}.x", b"1")
    await eventually(lambda: seen == [b"1"])
    await first.unsubscribe()
    await bus.publish(f"events.{name}.x", b"2")
    await (await buses.connect()).publish(f"events.{name}.x", b"3")
    await stream_of(await buses.connect(), name).consume(handler, durable="d")
    await eventually(lambda: seen == [b"1", b"2", b"3"])


async def test_a_consumer_knows_how_many_messages_wait_behind_each(buses: Buses) -> None:
    bus, name, seen = await buses.connect(), unique("S"), []
    stream = await made(stream_of(bus, name))

    async def handler(message: Message) -> None:
        seen.append((message.data, message.pending))

    for data in (b"1", b"2", b"3"):
        await bus.publish(f"events.{name}.x", data)
    await eventually(lambda: stored(stream, 3))
    await stream.consume(handler, durable="d")
    await eventually(lambda: seen == [(b"1", 2), (b"2", 1), (b"3", 0)])


async def stored(stream: EventStream, count: int) -> bool:
    return len(await stream.last(count)) == count


async def test_two_durables_each_get_everything(buses: Buses) -> None:
    bus, name, one, two = await buses.connect(), unique("S"), [], []
    stream = await made(stream_of(bus, name))

    async def to_one(message: Message) -> None:
        one.append(message.data)

    async def to_two(message: Message) -> None:
        two.append(message.data)

    await stream.consume(to_one, durable="one")
    await stream.consume(to_two, durable="two")
    await bus.publish(f"events.{name}.x", b"1")
    await eventually(lambda: one == two == [b"1"])


async def test_a_failing_handler_gets_the_message_again(buses: Buses) -> None:
    bus, name, seen = await buses.connect(), unique("S"), []
    stream = await made(stream_of(bus, name))

    async def handler(message: Message) -> None:
        seen.append(message.data)
        if len(seen) == 1:
            raise ValueError("not this time")

    await stream.consume(handler, durable="d")
    await bus.publish(f"events.{name}.x", b"1")
    await eventually(lambda: seen == [b"1", b"1"])


async def test_last_answers_the_newest_oldest_first(buses: Buses) -> None:
    bus, name = await buses.connect(), unique("S")
    stream = stream_of(bus, name)
    assert await stream.last(3) == []
    for number in range(5):
        await bus.publish(f"events.{name}.x", str(number).encode(), {"X-N": str(number)})

    async def all_there() -> bool:
        return len(await stream.last(9)) == 5

    await eventually(all_there)
    newest = await stream.last(2)
    assert [(message.data, message.headers["X-N"]) for _, message in newest] == [(b"3", "3"), (b"4", "4")]


async def test_the_oldest_messages_are_discarded_first(buses: Buses) -> None:
    bus, name = await buses.connect(), unique("S")
    stream = await made(stream_of(bus, name, max_bytes=100_000))
    for number in range(30):
        await bus.publish(f"events.{name}.x", bytes([number]) * 10_000)

    async def newest_is_last() -> bool:
        stored = await stream.last(30)
        return bool(stored) and stored[-1][1].data[0] == 29

    await eventually(newest_is_last)
    stored = [message.data[0] for _, message in await stream.last(30)]
    assert stored == list(range(30 - len(stored), 30))
    assert 5 <= len(stored) <= 10


async def test_large_events_are_read_whole(buses: Buses) -> None:
    bus, name, seen = await buses.connect(), unique("S"), []
    stream = await made(stream_of(bus, name, max_bytes=8 << 20))

    async def handler(message: Message) -> None:
        seen.append(message.data)

    await stream.consume(handler, durable="d")
    await bus.publish(f"events.{name}.x", b"x" * 1_500_000)
    await eventually(lambda: seen == [b"x" * 1_500_000])
    assert [len(message.data) for _, message in await stream.last(1)] == [1_500_000]


async def test_unsubscribing_waits_for_the_running_handler(buses: Buses) -> None:
    bus, name, done = await buses.connect(), unique("S"), []
    started, finish = asyncio.Event(), asyncio.Event()
    stream = await made(stream_of(bus, name))

    async def handler(message: Message) -> None:
        started.set()
        await finish.wait()
        done.append(message.data)

    subscription = await stream.consume(handler, durable="d")
    await bus.publish(f"events.{name}.x", b"1")
    await started.wait()
    unsubscribing = asyncio.create_task(subscription.unsubscribe())
    for _ in range(10):  # round trips, in which it would be over if it did not wait
        await stream.last(1)
    assert not unsubscribing.done()
    finish.set()
    await unsubscribing
    assert done == [b"1"]


async def test_invalid_names_are_refused(buses: Buses) -> None:
    bus = await buses.connect()
    with pytest.raises(InvalidInput):
        bus.stream("no dots", ["events.>"], max_bytes=1, max_age=1)
    with pytest.raises(InvalidInput):
        bus.stream("no.dots", ["events.>"], max_bytes=1, max_age=1)


async def test_a_reader_goes_on_behind_a_position_on_its_subject(buses: Buses) -> None:
    bus, name = await buses.connect(), unique("S")
    stream = await made(stream_of(bus, name))
    assert await stream.after(0, f"events.{name}.a", limit=5) == []
    for number in range(6):
        await bus.publish(f"events.{name}.{'ab'[number % 2]}", str(number).encode())

    async def all_there() -> bool:
        return len(await stream.last(9)) == 6

    await eventually(all_there)
    first = await stream.after(0, f"events.{name}.a", limit=2)
    assert [message.data for _, message in first] == [b"0", b"2"]
    rest = await stream.after(first[-1][0], f"events.{name}.a", limit=9)
    assert [message.data for _, message in rest] == [b"4"]
    assert await stream.after(rest[-1][0], f"events.{name}.a", limit=9) == []
    every = await stream.after(0, f"events.{name}.>", limit=9)
    assert [message.data for _, message in every] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_a_reader_goes_back_from_the_newest(buses: Buses) -> None:
    bus, name = await buses.connect(), unique("S")
    stream = await made(stream_of(bus, name))
    for number in range(7):
        await bus.publish(f"events.{name}.x", str(number).encode())
    await eventually(lambda: stored(stream, 7))
    newest = await stream.last(3)
    assert [message.data for _, message in newest] == [b"4", b"5", b"6"]
    before = await stream.last(3, before=newest[0][0])
    assert [message.data for _, message in before] == [b"1", b"2", b"3"]
    assert [message.data for _, message in await stream.last(3, before=before[0][0])] == [b"0"]


async def test_an_appended_message_is_stored_once_behind_the_one_it_names(buses: Buses) -> None:
    bus, name = await buses.connect(), unique("S")
    stream = await made(stream_of(bus, name))
    subject = f"events.{name}.x"
    assert await stream.newest(subject) is None
    first = await stream.append(subject, b"1", after=0)
    other = await stream.append(f"events.{name}.y", b"another subject", after=0)
    second = await stream.append(subject, b"2", after=first)
    assert first < other < second
    for behind in (0, first, other):
        with pytest.raises(Conflict):
            await stream.append(subject, b"3", after=behind)
    found = await stream.newest(subject)
    assert found is not None
    assert (found[0], found[1].data) == (second, b"2")
    assert [message.data for _, message in await stream.after(0, subject, limit=9)] == [b"1", b"2"]


async def test_of_two_writers_that_append_at_once_one_is_stored(buses: Buses) -> None:
    name, first, second = unique("S"), await buses.connect(), await buses.connect()
    await made(stream_of(first, name))
    appending = [stream_of(bus, name).append(f"events.{name}.x", b"x", after=0) for bus in (first, second)]
    results = await asyncio.gather(*appending, return_exceptions=True)
    assert sorted(type(result) for result in results if isinstance(result, Exception)) == [Conflict]
    assert await stored(stream_of(first, name), 1)


async def test_an_append_that_is_too_large_is_refused(buses: Buses) -> None:
    stream = await made(stream_of(await buses.connect(), name := unique("S")))
    with pytest.raises(PayloadTooLarge):
        await stream.append(f"events.{name}.x", b"x" * (MAX_RECORD + 1), after=0)
