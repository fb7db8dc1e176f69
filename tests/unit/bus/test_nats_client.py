"""The NATS client hands messages over in their order, however the network cuts them."""

import asyncio
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from shared.bus.nats.client import FixedClient
from shared.bus.nats.subscription import OrderedReceiver
from shared.bus.port import Message

TAKEN, OTHER = 7, 8
Sent = tuple[int, bytes, bool]


def wire(number: int, data: bytes, has_reply: bool) -> bytes:
    reply = b" _INBOX.r" if has_reply else b""
    return b"MSG a.b %d%s %d\r\n%s\r\n" % (number, reply, len(data), data)


class Reading:
    """A client whose read loop runs, without a server."""

    def __init__(self) -> None:
        self.client = FixedClient()
        self.got: list[bytes] = []
        self.in_this_turn = 0
        self.expected = 0
        self.refusing = False
        self.client.receivers[TAKEN] = self
        self.reader = asyncio.StreamReader()
        self.feed = partial(self.client._feed, self.reader, self.reader.feed_data)
        self.feeding = False

    def receive_now(self, subject: str, data: bytes) -> bool:
        assert subject == "a.b"
        if not self.refusing:
            self.got.append(data)
            self.in_this_turn += self.feeding
        return not self.refusing

    def expect_later(self) -> None:
        self.expected += 1

    async def run(self, pieces: list[bytes]) -> None:
        """Each piece comes by itself; an empty one is a turn of the loop."""
        reading = asyncio.create_task(self.read())
        for piece in pieces:
            if piece != b"":
                self.feeding = True
                self.feed(piece)
                self.feeding = False
            else:
                await asyncio.sleep(0)
        self.reader.feed_eof()
        await reading

    async def read(self) -> None:
        while data := await self.reader.read(4096):
            await self.client._ps.parse(data)


def read(pieces: list[bytes]) -> tuple[list[bytes], int]:
    """The messages that came, and how many of them in the turn that brought their bytes."""

    async def run() -> Reading:
        reading = Reading()
        await reading.run(pieces)
        return reading

    reading = asyncio.run(run())
    return reading.got, reading.in_this_turn


messages = st.lists(st.tuples(st.sampled_from([TAKEN, OTHER]), st.binary(max_size=20), st.booleans()), max_size=8)


@given(messages, st.lists(st.integers(0, 60), max_size=20))
def test_messages_come_in_order_and_once_wherever_their_bytes_are_cut(sent: list[Sent], sizes: list[int]) -> None:
    data = b"".join(wire(*message) for message in sent)
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    got, _ = read([*pieces, data])
    assert got == [content for number, content, _ in sent if number == TAKEN]


def test_a_plain_message_is_handed_over_in_the_turn_that_reads_it() -> None:
    assert read([b"", wire(TAKEN, b"one", False) + wire(TAKEN, b"two", False)]) == ([b"one", b"two"], 2)


def test_what_comes_behind_a_message_that_is_being_read_waits_for_it() -> None:
    first = wire(TAKEN, b"one", False)
    pieces = [b"", first[:-4], b"", b"", first[-4:], wire(TAKEN, b"two", False)]
    assert read(pieces) == ([b"one", b"two"], 0)


def test_a_message_that_is_refused_is_expected_once_and_so_is_one_with_headers() -> None:
    async def expected(refusing: bool, message: bytes) -> int:
        reading = Reading()
        reading.refusing = refusing
        await reading.run([b"", message])
        return reading.expected

    headers = b"NATS/1.0\r\na: b\r\n\r\n"
    with_headers = b"HMSG a.b %d %d %d\r\n%sone\r\n" % (TAKEN, len(headers), len(headers) + 3, headers)
    assert asyncio.run(expected(True, wire(TAKEN, b"one", False))) == 1
    assert asyncio.run(expected(False, with_headers)) == 1


async def test_messages_behind_one_that_is_fetched_wait_for_it_and_later_ones_do_not() -> None:
    got: list[bytes] = []

    async def fetch(raw: Msg) -> Message:
        return Message(raw.subject, raw.data)

    ordered = OrderedReceiver(lambda message: got.append(message.data), fetch)
    ordered.expect_later()
    assert not ordered.receive_now("a.b", b"two")
    await ordered.receive_later(Msg(FixedClient(), "a.b", data=b"one"))
    assert ordered.receive_now("a.b", b"two")
    assert got == [b"one", b"two"]
