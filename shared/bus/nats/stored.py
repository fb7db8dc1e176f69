"""Reads all that a stream holds, page by page, by direct gets: they need no consumer, and so no right to make one.

Whoever may make a consumer may have the server deliver what a stream holds on any subject of its account.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import Header
from nats.js.errors import ServiceUnavailableError

from shared.bus.nats.jetstream import CALL_S, JetStream
from shared.errors import Disconnected, Unavailable

PAGE = 256
"""Messages of one request."""
_END, NONE, _NO_RESPONSE = "204", "404", "503"

SEQUENCE_HEADER = "Nats-Sequence"
SUBJECT_HEADER = "Nats-Subject"
_PENDING_HEADER = "Nats-Num-Pending"


class StoredMessages:
    """The messages of a stream on a subject, in the order of their sequences: an async iterator.

    What is written meanwhile may or may not be among them; what is there when the reading begins is, unless
    it is replaced by something that comes later in the stream.

    Args:
        jetstream: Where.
        stream: Its name.
        subject: What to read, as a pattern.
        ensure: Makes the stream, as the owner.
        after: The position behind which to begin.
        page: Messages of one request, at most `PAGE`.
    """

    def __init__(
        self,
        jetstream: JetStream,
        stream: str,
        subject: str,
        ensure: Callable[[bool], Awaitable[None]],
        *,
        after: int = 0,
        page: int = PAGE,
    ) -> None:
        self._jetstream = jetstream
        self._request = f"$JS.API.DIRECT.GET.{stream}"
        self._subject = subject
        self._ensure = ensure
        self._after = after
        self._batch = min(page, PAGE)

    async def __aiter__(self) -> AsyncIterator[Msg]:
        """Each message. Raises as `JetStream.call`."""
        position = self._after
        more = True
        while more:
            page, more = await self._jetstream.call(partial(self._page, position), ensure=self._ensure)
            for message in page:
                yield message
            if page:
                position = sequence(page[-1])

    async def _page(self, position: int) -> tuple[list[Msg], bool]:
        """Messages behind `position`, and whether there are more."""
        connection = self._jetstream.connection
        client = connection.client
        page: list[Msg] = []
        ended: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            if Header.STATUS not in (message.headers or {}):
                page.append(message)
            elif not ended.done():
                ended.set_result(message)

        def lost() -> None:
            if not ended.done():
                ended.set_exception(Disconnected("the bus connection was lost while reading; try again"))

        inbox = client.new_inbox()
        body = json.dumps({"seq": position + 1, "next_by_subj": self._subject, "batch": self._batch}).encode()
        subscription = await client.subscribe(inbox, cb=receive)
        connection.on_lost.add(lost)
        try:
            await client.publish(self._request, body, reply=inbox)
            async with asyncio.timeout(CALL_S):
                end = await ended
        finally:
            connection.on_lost.discard(lost)
            ended.cancel()
            with suppress(Error):
                await subscription.unsubscribe()
        headers = end.headers or {}
        status = headers.get(Header.STATUS)
        if status == _NO_RESPONSE:
            raise ServiceUnavailableError(code=503, description=f"no response on {self._request}")
        if status not in {_END, NONE}:
            raise Unavailable(f"{self._request} was refused by JetStream: {headers.get(Header.DESCRIPTION)}")
        return page, status == _END and int(headers.get(_PENDING_HEADER, "0")) > 0


def sequence(message: Msg) -> int:
    """A message's position in its stream."""
    return int((message.headers or {})[SEQUENCE_HEADER])
