"""One piece of work at a time, in turns between tenants: rendering, tokenising, compiling.

Such work comes before a request enters a queue of the engine. Without turns, the texts of a tenant that floods it
would all be prepared before the one text of another.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.inference.turns.fair_queue import FairQueue
from shared.errors import Overloaded

PLACES = 256
"""Requests of a replica that may wait to be prepared; one tenant has half of the places at most."""

Charge = Callable[[str, float], None]
"""Takes a tenant, and the seconds of work that were done for it."""


def charge_nobody(tenant: str, seconds: float) -> None:
    """For work that counts here only."""


class Turns:
    """A lock that goes to the tenant for which least was done. A tenant's own requests go in the order they came.

    The places to wait are shared as in the engine's queue: a tenant may hold as many as are still free. So one that
    floods gets half of them, and a tenant without any finds one.

    Args:
        what: The work, for the message of a refusal, such as "prompts".
        places: Requests that may wait.
        charge: Called after each turn.
        most_s: Seconds of a turn that count at most: work of low priority may take long for no fault of its own.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        what: str,
        *,
        places: int = PLACES,
        charge: Charge = charge_nobody,
        most_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._places = places
        self._charge = charge
        self._most_s = most_s
        self._clock = clock
        self._queue = FairQueue()
        self._present: dict[str, int] = {}
        """Requests of each tenant that wait or have the turn."""
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._taken = False

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def others_wait(self, tenant: str) -> bool:
        """Whether a request of another tenant waits."""
        return bool(self._waiting.keys() - {tenant})

    @asynccontextmanager
    async def turn(self, tenant: str, *, param: str | None = None) -> AsyncIterator[None]:
        """Wait for a turn, and have it while inside.

        Args:
            tenant: Whose work it is.
            param: The field that makes the work; a refusal names it, and is then a refusal of that field only.

        Raises:
            Overloaded: The tenant has its share of the places to wait.
        """
        if self._taken:
            self._check_places(tenant, param)
        self._enter(tenant)
        seconds = 0.0
        try:
            if self._taken:
                await self._wait(tenant)
            self._taken = True
            begun = self._clock()
            try:
                yield
            finally:
                seconds = min(self._clock() - begun, self._most_s)
                self._queue.charge(tenant, seconds)
                self._pass_on()
        finally:
            self._leave(tenant)
            if seconds:
                self._charge(tenant, seconds)

    def _check_places(self, tenant: str, param: str | None) -> None:
        waiting = self.waiting
        if len(self._waiting.get(tenant, ())) >= self._places - waiting:
            raise Overloaded(f"{waiting} {self._what} wait already", param=param, retry_after=1.0)

    def _enter(self, tenant: str) -> None:
        if tenant not in self._present:
            self._queue.add(tenant)
        self._present[tenant] = self._present.get(tenant, 0) + 1

    def _leave(self, tenant: str) -> None:
        self._present[tenant] -= 1
        if not self._present[tenant]:
            del self._present[tenant]
            self._queue.remove(tenant)

    async def _wait(self, tenant: str) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # the turn came, and nobody is here to take it
                self._pass_on()
            elif mine in self._waiting.get(tenant, ()):
                self._forget(tenant, mine)
            raise

    def _forget(self, tenant: str, waiter: "asyncio.Future[None]") -> None:
        self._waiting[tenant].remove(waiter)
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _pass_on(self) -> None:
        """Give the turn to the next; nobody can take it in between."""
        while self._waiting:
            tenant = min(self._waiting, key=self._queue.tag)
            waiter = self._waiting[tenant][0]
            self._forget(tenant, waiter)
            if not waiter.done():  # else it was cancelled, and its task does not know yet
                waiter.set_result(None)
                return
        self._taken = False
