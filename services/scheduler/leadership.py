"""One scheduler leads: the one that holds the lease in KV `LLMOS_LEASES`.

No two clocks are compared. A follower notes on its own monotonic clock when it first saw the lease at a revision,
and takes the lease by compare-and-set when that revision has stood for a whole TTL. A leader counts its own TTL from
before it sent the renewal, which is earlier than any follower can have seen it, so it stops before another starts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from shared.bus.port import KeyValue, KvEntry
from shared.contracts.scheduler import Leadership
from shared.deadlines import LEASE_TTL_S
from shared.errors import Conflict, LlmosError
from shared.service.background import background

KEY = "scheduler"

_log = structlog.get_logger("llmos.scheduler")


@dataclass(slots=True)
class LeaseWatch:
    """How long the lease has stood at one revision, by the local clock."""

    ttl: float
    _revision: int | None = None
    _since: float = 0.0

    def free(self, entry: KvEntry | None, now: float) -> bool:
        """Whether the lease has no holder, as far as can be known `now` (seconds, monotonic)."""
        if entry is None:
            self._revision = None
            return True
        if entry.revision != self._revision:
            self._revision, self._since = entry.revision, now
        return now - self._since >= self.ttl


class Leader:
    """Takes, renews and gives up the lease.

    Args:
        kv: The bucket `LLMOS_LEASES`.
        holder: This process; unique.
        term: What runs while this process leads: entered when it begins to lead, left when it ceases.
        ttl: Seconds that the lease holds; it is renewed five times in that time.
    """

    def __init__(
        self,
        kv: KeyValue,
        holder: str,
        term: Callable[[], AbstractAsyncContextManager[None]],
        *,
        ttl: float = LEASE_TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kv = kv
        self._record = Leadership(holder=holder).encode()
        self._holder = holder
        self._term = term
        self._current_term = AsyncExitStack()
        self._ttl = ttl
        self._renew = ttl / 5
        self._clock = clock
        self._watch = LeaseWatch(ttl)
        self._revision = 0
        self._until = 0.0
        self._announced = False
        self._failing = False

    @property
    def leading(self) -> bool:
        """Whether this process leads now."""
        return self._clock() < self._until

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Leader"]:
        """Compete for the lease and keep it while inside; leaving gives it up."""
        async with background(self._run(), "lead"):
            yield self

    async def _run(self) -> None:
        try:
            while True:
                await self._step()
                await self._announce()
                await asyncio.sleep(self._renew)
        finally:
            await self._give_up()

    async def _step(self) -> None:
        sent = self._clock()
        try:
            async with asyncio.timeout(self._ttl / 2):
                if self._until > sent:
                    self._revision = await self._kv.update(KEY, self._record, self._revision)
                elif not await self._take(sent):
                    return
        except Conflict:
            _log.warning("leadership.lost", holder=self._holder)
            self._until = 0.0
        except (LlmosError, TimeoutError) as error:
            if not self._failing:
                why = str(error) or type(error).__name__
                _log.warning("leadership.lease_not_written", holder=self._holder, error=why, retrying=True)
            self._failing = True
        else:
            self._failing = False
            self._until = sent + self._ttl

    async def _take(self, now: float) -> bool:
        entry = await self._kv.get(KEY)
        if not self._watch.free(entry, now) and not self._own(entry):
            return False
        if entry is None:
            self._revision = await self._kv.create(KEY, self._record)
        else:
            self._revision = await self._kv.update(KEY, self._record, entry.revision)
        return True

    def _own(self, entry: KvEntry | None) -> bool:
        """Whether this holder wrote the lease: before a restart, or in a renewal whose response was lost."""
        return entry is not None and entry.value == self._record

    async def _announce(self) -> None:
        if self.leading != self._announced:
            self._announced = self.leading
            _log.info("leadership.began" if self._announced else "leadership.ended", holder=self._holder)
            if self._announced:
                await self._current_term.enter_async_context(self._term())
            else:
                await self._current_term.aclose()

    async def _give_up(self) -> None:
        held, self._until = self.leading, 0.0
        await self._announce()
        if held:
            try:
                async with asyncio.timeout(self._ttl / 2):
                    await self._kv.delete(KEY, self._revision)
            except (LlmosError, TimeoutError) as error:
                _log.warning(
                    "leadership.lease_not_deleted",
                    error=str(error) or type(error).__name__,
                    consequence="it expires",
                )
