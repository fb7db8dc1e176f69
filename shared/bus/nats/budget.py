"""How many bytes one process has sent to one subject without an answer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FREE = 16 << 10
"""Bytes of a request that does not wait: prompts of usual length."""
UNANSWERED = 8 << 20
"""Bytes of larger requests to one subject, without an answer, at once. nats-server cuts a client off that leaves 64
MiB unread; a replica that is busy for a second must not be that client, with several gateways asking."""


class ByteBudgets:
    """Lets requests to a subject wait, in order, while too many bytes are under way to it."""

    def __init__(self, limit: int = UNANSWERED) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def holding(self, subject: str, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes may be sent to `subject`; they count until the block ends."""
        if size <= FREE:
            yield
            return
        size = min(size, self._limit)
        await self._take(subject, size)
        try:
            yield
        finally:
            self._give_back(subject, size)

    async def _take(self, subject: str, size: int) -> None:
        held = self._held.get(subject, 0)
        if subject not in self._waiting and held + size <= self._limit:
            self._held[subject] = held + size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(subject, deque()).append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(subject, size)
            raise

    def _give_back(self, subject: str, size: int) -> None:
        held = self._held[subject] - size
        waiting = self._waiting.get(subject, deque())
        while waiting and (waiting[0][1].done() or held + waiting[0][0] <= self._limit):
            more, turn = waiting.popleft()
            if not turn.done():
                held += more
                turn.set_result(None)
        if not waiting:
            self._waiting.pop(subject, None)
        self._held[subject] = held
        if not held:
            del self._held[subject]
