"""What both adapters promise about work queues and event streams."""

import asyncio

import pytest

from shared.bus.port import MAX_RECORD, EventStream, Job, Message, WorkQueue
from shared.errors import InvalidInput, PayloadTooLarge
from tests.support.buses import Buses, unique
from tests.support.wait import eventually


@pytest.fixture
async def queue(buses: Buses) -> WorkQueue:
    name = unique("W")
    return (await buses.connect()).work_queue(name, f"jobs.{name}")


async def taken(queue: WorkQueue) -> Job:
    job = await queue.take(5)
    assert job is not None
    return job


async def test_a_job_goes_to_one_worker(buses: Buses) -> None:
    name = unique("W")
    queues = [(await buses.connect()).work_queue(name, f"jobs.{name}") for _ in range(3)]
    for number in range(9):
        await queues[0].put(str(number).encode())
    seen = []

    async def work(queue: WorkQueue) -> None:
        while (job := await queue.take(0.2)) is not None:
            seen.append(job.data)
            await job.ack()

    await asyncio.gather(*(work(queue) for queue in queues))
    assert sorted(seen) == [str(number).encode() for number in range(9)]


async def test_an_empty_queue_is_none_after_the_time_out(queue: WorkQueue) -> None:
    started = asyncio.get_running_loop().time()
    assert await queue.take(0.1) is None
    assert asyncio.get_running_loop().time() - started < 2


async def test_a_waiting_worker_gets_a_new_job(queue: WorkQueue) -> None:
    taking = asyncio.create_task(queue.take(10))
    await asyncio.sleep(0)
    await queue.put(b"late")
    job = await taking
    assert job is not None
    assert (job.data, job.attempt) == (b"late", 1)


async def test_a_refused_job_is_delivered_again_with_its_attempt(queue: WorkQueue) -> None:
    await queue.put(b"job")
    job = await taken(queue)
    await job.in_progress()
    await job.nack()
    again = await taken(queue)
    assert (again.data, again.attempt) == (b"job", 2)
    await again.ack()
    assert await queue.take(0.05) is None


async def test_a_cancelled_take_loses_no_job(queue: WorkQueue) -> None:
    taking = asyncio.create_task(queue.take(10))
    await asyncio.sleep(0.02)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await queue.put(b"job")
    job = await taken(queue)
    assert job.data == b"job"


async def test_the_same_message_id_is_queued_once(queue: WorkQueue) -> None:
    for data in (b"first", b"second"):
        await queue.put(data, message_id="a")
    await queue.put(b"third", message_id="b")
    assert [(await taken(queue)).data, (await taken(queue)).data] == [b"first", b"third"]
    assert await queue.take(0.05) is None


async def test_an_oversize_job_is_refused(queue: WorkQueue) -> None:
    with pytest.raises(PayloadTooLarge, match=str(MAX_RECORD)):
        await queue.put(bytes(MAX_RECORD + 1))


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
    assert [(message.data, message.headers["X-N"]) for message in newest] == [(b"3", "3"), (b"4", "4")]


async def test_the_oldest_messages_make_room(buses: Buses) -> None:
    bus, name = await buses.connect(), unique("S")
    stream = await made(stream_of(bus, name, max_bytes=100_000))
    for number in range(30):
        await bus.publish(f"events.{name}.x", bytes([number]) * 10_000)

    async def newest_is_last() -> bool:
        kept = await stream.last(30)
        return bool(kept) and kept[-1].data[0] == 29

    await eventually(newest_is_last)
    kept = [message.data[0] for message in await stream.last(30)]
    assert kept == list(range(30 - len(kept), 30))
    assert 5 <= len(kept) <= 10


async def test_large_events_are_read_whole(buses: Buses) -> None:
    bus, name, seen = await buses.connect(), unique("S"), []
    stream = await made(stream_of(bus, name, max_bytes=8 << 20))

    async def handler(message: Message) -> None:
        seen.append(message.data)

    await stream.consume(handler, durable="d")
    await bus.publish(f"events.{name}.x", b"x" * 1_500_000)
    await eventually(lambda: seen == [b"x" * 1_500_000])
    assert [len(message.data) for message in await stream.last(1)] == [1_500_000]


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
        bus.work_queue("no.dots", "jobs")
    with pytest.raises(InvalidInput):
        bus.stream("no dots", ["events.>"], max_bytes=1, max_age=1)
    with pytest.raises(InvalidInput):
        bus.work_queue(unique("W"), "jobs.*")
