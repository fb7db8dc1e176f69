"""Streams, without a server: what is sent, in which order, and what happens when something breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Message

from services.gateway.anthropic.dialect import ANTHROPIC
from services.gateway.http.errors import ClientGone
from services.gateway.http.middleware import STATE, RequestState
from services.gateway.http.stream import Source, Stream
from services.gateway.ollama.dialect import OLLAMA
from shared.errors import Overloaded
from tests.support.harness.wait import eventually


class Connection:
    """A client that reads everything, and leaves when `left` is set."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.state = RequestState(request_id="r", trace_id="t")

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def play(self, stream: Stream) -> None:
        scope = {"type": "http", "method": "POST", "path": "/x", STATE: self.state}
        await stream(scope, self.receive, self.send)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


def source(events: AsyncIterator[bytes], closed: list[bool] | None = None) -> Source:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            yield events
        finally:
            if closed is not None:
                closed.append(True)

    return opened


async def of(*items: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for item in items:
        yield item
    if then is not None:
        raise then


async def test_a_complete_stream_ends_with_done() -> None:
    connection = Connection()
    await connection.play(Stream(source(of(b"data: {}\n\n", b"data: [1]\n\n"))))
    assert connection.sent[0]["status"] == 200
    assert connection.text == "data: {}\n\ndata: [1]\n\ndata: [DONE]\n\n"
    assert [message["more_body"] for message in connection.sent[1:]] == [True, True, False]


async def test_a_failure_before_the_first_byte_is_raised() -> None:
    @asynccontextmanager
    async def refused() -> AsyncIterator[AsyncIterator[bytes]]:
        raise Overloaded("full")
        yield of()

    connection = Connection()
    with pytest.raises(Overloaded):
        await connection.play(Stream(refused))
    assert connection.sent == []


async def test_a_failure_after_the_first_byte_is_an_error_event_and_the_end() -> None:
    connection = Connection()
    await connection.play(Stream(source(of(b"data: {}\n\n", then=Overloaded("full")))))
    assert connection.text.startswith('data: {}\n\nevent: error\ndata: {"error":{"message":"full; try again in 1 s"')
    assert "[DONE]" not in connection.text
    assert connection.sent[-1]["more_body"] is False
    assert connection.state.failure is not None


async def test_an_unexpected_failure_is_an_error_event_too_without_its_detail() -> None:
    connection = Connection()
    await connection.play(Stream(source(of(b"data: {}\n\n", then=ZeroDivisionError("secret")))))
    assert '"code":"internal"' in connection.text
    assert "secret" not in connection.text


async def test_a_client_that_leaves_closes_the_source() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"
        await asyncio.Event().wait()

    connection, closed = Connection(), []
    playing = asyncio.create_task(connection.play(Stream(source(endless(), closed))))
    await eventually(lambda: len(connection.sent) >= 2)
    connection.left.set()
    with pytest.raises(ClientGone):
        await playing
    assert closed == [True]


async def test_a_long_wait_is_bridged_with_comments() -> None:
    go = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        await go.wait()
        yield b"data: {}\n\n"

    connection = Connection()
    playing = asyncio.create_task(connection.play(Stream(source(late()), keep_alive=0.001)))
    await eventually(lambda: ": keep-alive" in connection.text)
    go.set()
    await playing
    assert connection.text.endswith("data: {}\n\ndata: [DONE]\n\n")


async def test_a_dialect_has_its_own_way_to_keep_a_stream_open_and_to_end_it() -> None:
    for dialect, keep_alive, failure in (
        (ANTHROPIC, b'event: ping\ndata: {"type":"ping"}\n\n', b"event: error"),
        (OLLAMA, b"", b'{"error":"full; try again in 1 s"}\n'),
    ):
        connection, go_on = Connection(), asyncio.Event()

        async def waiting(go_on: asyncio.Event = go_on) -> AsyncIterator[bytes]:
            yield b"first\n"
            await go_on.wait()
            raise Overloaded("full")

        playing = asyncio.create_task(connection.play(Stream(source(waiting()), dialect, keep_alive=0.001)))
        if keep_alive:
            await eventually(
                lambda sent=connection.sent, piece=keep_alive: piece in [one.get("body") for one in sent]
            )
        else:
            await asyncio.wait([playing], timeout=0.05)
            assert [each.get("body") for each in connection.sent[1:]] == [b"first\n"]
        go_on.set()
        await playing
        assert connection.sent[-1]["body"].startswith(failure)
        assert dict(connection.sent[0]["headers"])[b"content-type"] == dialect.media_type
