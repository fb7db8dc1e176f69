"""What both adapters promise about publishing, subscribing, requests and draining."""

import asyncio
import os

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from shared.bus.port import MAX_OBJECT, OBJECT_THRESHOLD, Message
from shared.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    Disconnected,
    Internal,
    InvalidInput,
    NoResponders,
    Overloaded,
    PayloadTooLarge,
)
from tests.support.harness.buses import Buses, unique
from tests.support.harness.wait import eventually


async def echo(message: Message) -> bytes:
    return message.data


def ignore(message: Message) -> None:
    pass


class Box:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.messages]


async def test_published_message_reaches_every_subscriber(buses: Buses) -> None:
    sender, first, second = await buses.connect(), await buses.connect(), await buses.connect()
    subject, one, two = unique("t"), Box(), Box()
    await first.subscribe(subject, one)
    await second.subscribe(subject, two)
    await sender.publish(subject, b"hello", {"X-Kind": "greeting"})
    await eventually(lambda: one.messages and two.messages)
    assert one.messages[0] == Message(subject, b"hello", {"X-Kind": "greeting"})
    assert two.data == [b"hello"]


async def test_wildcards_match_one_part_or_all_that_follow(buses: Buses) -> None:
    bus = await buses.connect()
    root, star, rest = unique("t"), Box(), Box()
    await bus.subscribe(f"{root}.*.end", star)
    await bus.subscribe(f"{root}.>", rest)
    for subject in ("a.end", "a.b.end", "a"):
        await bus.publish(f"{root}.{subject}", subject.encode())
    await bus.publish(root, b"")
    await eventually(lambda: len(rest.data) == 3 and star.data)
    assert rest.data == [b"a.end", b"a.b.end", b"a"]
    assert star.data == [b"a.end"]


async def test_a_queue_group_shares_messages(buses: Buses) -> None:
    sender, first, second = await buses.connect(), await buses.connect(), await buses.connect()
    subject, one, two = unique("t"), Box(), Box()
    await first.subscribe(subject, one, queue="workers")
    await second.subscribe(subject, two, queue="workers")
    for number in range(100):
        await sender.publish(subject, str(number).encode())
    await eventually(lambda: len(one.data) + len(two.data) == 100)
    assert one.data
    assert two.data
    assert not set(one.data) & set(two.data)


async def test_messages_come_in_order_behind_one_that_takes_longer_as_well(buses: Buses) -> None:
    sender, receiver = await buses.connect(), await buses.connect()
    subject, box = unique("t"), Box()
    await receiver.subscribe(subject, box)
    sent = []
    for number in range(60):
        data = str(number).encode()
        if number % 20 == 5:
            data = data.ljust(OBJECT_THRESHOLD + 1)  # travels as a reference, and is fetched on arrival
            await sender.publish(subject, data)
        elif number % 20 == 9:
            await sender.publish(subject, data, {"X-Kind": "with headers"})
        elif number % 2:
            await sender.publish(subject, data)
        else:
            assert sender.try_publish(subject, data)
        sent.append(data)
    await eventually(lambda: len(box.data) == len(sent))
    assert box.data == sent


async def test_what_cannot_go_at_once_is_not_sent(buses: Buses) -> None:
    bus = await buses.connect()
    subject, box = unique("t"), Box()
    await bus.subscribe(subject, box)
    assert not bus.try_publish(subject, bytes(OBJECT_THRESHOLD + 1))
    with pytest.raises(InvalidInput):
        bus.try_publish("a b", b"")
    assert bus.try_publish(subject, b"small")
    await eventually(lambda: box.messages)
    assert box.data == [b"small"]
    await bus.drain()
    assert not bus.try_publish(subject, b"late")


async def test_a_slow_responder_does_not_hold_up_the_others(buses: Buses) -> None:
    bus = await buses.connect()
    subject, release = unique("t"), asyncio.Event()

    async def responder(message: Message) -> bytes:
        if message.data == b"slow":
            await release.wait()
        return message.data

    await bus.respond(subject, responder)
    slow = asyncio.create_task(bus.request(subject, b"slow", timeout=30))
    assert await bus.request(subject, b"fast", timeout=30) == b"fast"
    assert not slow.done()
    release.set()
    assert await slow == b"slow"


async def test_a_failing_receiver_does_not_end_its_subscription(buses: Buses) -> None:
    bus = await buses.connect()
    subject, done = unique("t"), []

    def receive(message: Message) -> None:
        if message.data == b"bad":
            raise ValueError("bad message")
        done.append(message.data)

    await bus.subscribe(subject, receive)
    await bus.publish(subject, b"bad")
    await bus.publish(subject, b"good")
    await eventually(lambda: done == [b"good"])


async def test_request_is_answered(buses: Buses) -> None:
    server, client = await buses.connect(), await buses.connect()
    subject = unique("t")
    await server.respond(subject, echo, queue="q")
    assert await client.request(subject, b"hello", timeout=5) == b"hello"
    assert await client.request(subject, b"", timeout=5) == b""


async def test_many_requests_at_once_get_their_own_answers(buses: Buses) -> None:
    server, client = await buses.connect(), await buses.connect()
    subject = unique("t")
    await server.respond(subject, echo)
    wanted = [str(number).encode() for number in range(200)]
    assert await asyncio.gather(*(client.request(subject, data, timeout=10) for data in wanted)) == wanted


async def test_one_of_a_queue_group_answers(buses: Buses) -> None:
    first, second, client = await buses.connect(), await buses.connect(), await buses.connect()
    subject, calls = unique("t"), []

    async def responder(message: Message) -> bytes:
        calls.append(message.data)
        return b"ok"

    await first.respond(subject, responder, queue="q")
    await second.respond(subject, responder, queue="q")
    for _ in range(10):
        await client.request(subject, b"", timeout=5)
    assert len(calls) == 10


async def test_nobody_listening_is_known_at_once(buses: Buses) -> None:
    bus = await buses.connect()
    async with asyncio.timeout(1):
        with pytest.raises(NoResponders, match="nobody"):
            await bus.request(unique("t"), b"", timeout=30)


async def test_nobody_listens_after_unsubscribing(buses: Buses) -> None:
    bus = await buses.connect()
    subject = unique("t")
    subscription = await bus.respond(subject, echo)
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    with pytest.raises(NoResponders):
        await bus.request(subject, b"", timeout=30)


async def test_a_silent_responder_is_a_deadline_exceeded(buses: Buses) -> None:
    bus = await buses.connect()
    subject, release = unique("t"), asyncio.Event()

    async def responder(_: Message) -> bytes:
        await release.wait()
        return b""

    await bus.respond(subject, responder)
    with pytest.raises(DeadlineExceeded, match=subject):
        await bus.request(subject, b"", timeout=0.1)
    release.set()


async def test_a_typed_error_crosses_the_bus(buses: Buses) -> None:
    server, client = await buses.connect(), await buses.connect()
    subject = unique("t")

    async def responder(message: Message) -> bytes:
        if message.data == b"long":
            raise ContextLengthExceeded("9000 tokens do not fit into 4096", param="messages")
        raise Overloaded("the queue is full", retry_after=1.5)

    await server.respond(subject, responder)
    with pytest.raises(ContextLengthExceeded, match="9000 tokens do not fit into 4096") as caught:
        await client.request(subject, b"long", timeout=5)
    assert caught.value.param == "messages"
    with pytest.raises(Overloaded) as full:
        await client.request(subject, b"", timeout=5)
    assert full.value.retry_after == 1.5


async def test_an_unexpected_error_arrives_as_an_id_without_its_text(buses: Buses) -> None:
    bus = await buses.connect()
    subject = unique("t")

    async def responder(_: Message) -> bytes:
        raise RuntimeError("the secret is 42")

    await bus.respond(subject, responder)
    with pytest.raises(Internal, match="error id") as caught:
        await bus.request(subject, b"", timeout=5)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("size", [600_000, 5_000_000])
async def test_large_payloads_travel_unseen_in_both_directions(buses: Buses, size: int) -> None:
    server, client = await buses.connect(), await buses.connect()
    subject, data = unique("t"), os.urandom(size)
    seen = []

    async def responder(message: Message) -> bytes:
        seen.append(message)
        return message.data[::-1]

    await server.respond(subject, responder)
    assert await client.request(subject, data, timeout=20, headers={"X-A": "b"}) == data[::-1]
    assert seen[0].data == data
    assert {name for name in seen[0].headers if name.startswith("Llmos")} == set()
    assert seen[0].headers["X-A"] == "b"


async def test_large_published_payload_arrives_whole_at_all_subscribers(buses: Buses) -> None:
    sender, first, second = await buses.connect(), await buses.connect(), await buses.connect()
    subject, one, two, data = unique("t"), Box(), Box(), os.urandom(2_000_000)
    await first.subscribe(subject, one)
    await second.subscribe(subject, two)
    await sender.publish(subject, data)
    await eventually(lambda: one.messages and two.messages)
    assert one.data == [data]
    assert two.data == [data]


async def test_oversize_payload_is_refused_at_the_sender(buses: Buses) -> None:
    bus = await buses.connect()
    subject = unique("t")
    data = bytes(MAX_OBJECT + 1)
    with pytest.raises(PayloadTooLarge, match=str(MAX_OBJECT)):
        await bus.publish(subject, data)
    with pytest.raises(PayloadTooLarge):
        await bus.request(subject, data, timeout=5)


async def test_oversize_answer_is_a_typed_error_at_the_asker(buses: Buses) -> None:
    bus = await buses.connect()
    subject = unique("t")

    async def responder(_: Message) -> bytes:
        return bytes(MAX_OBJECT + 1)

    await bus.respond(subject, responder)
    with pytest.raises(PayloadTooLarge):
        await bus.request(subject, b"", timeout=10)


async def test_malformed_subject_is_invalid_input(buses: Buses) -> None:
    bus = await buses.connect()
    for subject in ("", "a b", "a..b", "line\r\nPUB x 0\r\n"):
        with pytest.raises(InvalidInput):
            await bus.publish(subject, b"")
        with pytest.raises(InvalidInput):
            await bus.request(subject, b"", timeout=1)
        with pytest.raises(InvalidInput):
            await bus.subscribe(subject, ignore)


async def test_the_askers_trace_is_current_in_the_responder(buses: Buses) -> None:
    tracer = TracerProvider().get_tracer("test")
    server, client = await buses.connect(), await buses.connect()
    subject, seen = unique("t"), []

    async def responder(_: Message) -> bytes:
        seen.append(trace.get_current_span().get_span_context())
        return b""

    with tracer.start_as_current_span("subscribing: not the parent of any request"):
        await server.respond(subject, responder)
    await client.request(subject, b"", timeout=5)
    with tracer.start_as_current_span("asking") as span:
        await client.request(subject, b"", timeout=5)
    assert not seen[0].is_valid
    assert seen[1].trace_id == span.get_span_context().trace_id
    assert seen[1].span_id == span.get_span_context().span_id
    assert seen[1].is_remote
    assert not trace.get_current_span(otel_context.get_current()).get_span_context().is_valid


async def test_published_messages_carry_no_trace_of_their_own(buses: Buses) -> None:
    tracer = TracerProvider().get_tracer("test")
    bus = await buses.connect()
    subject, box = unique("t"), Box()
    await bus.subscribe(subject, box)
    with tracer.start_as_current_span("stepping"):
        await bus.publish(subject, b"frame")
    await eventually(lambda: box.messages)
    assert not box.messages[0].headers


async def test_unsubscribing_waits_for_running_responders(buses: Buses) -> None:
    bus = await buses.connect()
    subject, started, release, done = unique("t"), asyncio.Event(), asyncio.Event(), []

    async def responder(_: Message) -> bytes:
        started.set()
        await release.wait()
        done.append(True)
        return b""

    subscription = await bus.respond(subject, responder)
    await bus.publish(subject, b"")
    await started.wait()
    leaving = asyncio.create_task(subscription.unsubscribe())
    asyncio.get_running_loop().call_later(0.05, release.set)
    await leaving
    assert done == [True]


async def test_a_responder_may_unsubscribe_itself(buses: Buses) -> None:
    bus = await buses.connect()
    subject, done = unique("t"), asyncio.Event()

    async def responder(_: Message) -> bytes:
        await subscription.unsubscribe()
        done.set()
        return b""

    subscription = await bus.respond(subject, responder)
    await bus.publish(subject, b"")
    async with asyncio.timeout(5):
        await done.wait()


async def test_drain_answers_what_has_arrived_and_then_refuses(buses: Buses) -> None:
    server, client = await buses.connect(), await buses.connect()
    subject, started, finish = unique("t"), asyncio.Event(), asyncio.Event()

    async def responder(message: Message) -> bytes:
        if message.data == b"probe":
            return b"not draining yet"
        started.set()
        await finish.wait()
        return b"done"

    async def refused() -> bool:
        try:
            await client.request(subject, b"probe", timeout=5)
        except NoResponders:
            return True
        return False

    await server.respond(subject, responder)
    answer = asyncio.create_task(client.request(subject, b"", timeout=5))
    await started.wait()
    draining = asyncio.gather(server.drain(), server.drain())
    await eventually(refused)
    assert not draining.done()
    finish.set()
    await draining
    assert await answer == b"done"
    assert not server.connected
    with pytest.raises(NoResponders):
        await client.request(subject, b"", timeout=5)
    with pytest.raises(Disconnected):
        await server.request(subject, b"", timeout=5)
    with pytest.raises(Disconnected):
        await server.subscribe(subject, ignore)
    await server.publish(subject, b"dropped")
    await server.drain()
