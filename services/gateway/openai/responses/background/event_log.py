"""The events of a response that is generated in the background: read as they come, and again from any of them."""

import asyncio
from collections.abc import AsyncIterator

_END = b"\n\n"
"""Of an event, and nowhere in one."""


class EventLog:
    """The events so far. The number of an event is its place."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, event: bytes) -> None:
        """The next event."""
        self._events.append(event)
        self._wake()

    def end(self) -> None:
        """There are no more."""
        self._ended = True
        self._wake()

    def since(self, number: int) -> list[bytes]:
        """The events there are, from `number` on."""
        return self._events[number:]

    async def follow(self, number: int) -> AsyncIterator[bytes]:
        """The events from `number` on, as they come, up to the last."""
        while True:
            changed = self._changed
            for event in self._events[number:]:
                number += 1
                yield event
            if number >= len(self._events):
                if self._ended:
                    return
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def split_events(data: bytes) -> list[bytes]:
    """Events that were written one behind the other."""
    return [event + _END for event in data.split(_END) if event]
