"""Keeps the bus of an embedded system complete and writable.

nats-server has two faults that only its restart mends. A stream whose file could not be written stays broken when
there is space again. And a server that hangs responds to nothing. Its supervision (`shared.service.supervise`) sees
neither: the process lives.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from shared.bus.access.provision import provision
from shared.bus.access.stored import BUCKETS
from shared.bus.nats.bus import NatsBus
from shared.deadlines import BUS_HANG_S
from shared.disk import Disk, DiskUse
from shared.errors import DeadlineExceeded, Disconnected, LlmosError
from shared.service.background import background
from shared.service.supervise import Child

_log = structlog.get_logger("llmos.bus_watch")

LOOK_S = 0.5
WELL_S = 5.0
"""Seconds between looks at the server, after one that succeeded."""
WRITE_S = 60.0
"""Seconds between attempts to write while all is well: each is a change of every bucket."""
PROBE_S = 2.0
"""The same after one that failed, when each is an attempt to write; and the time that one has."""
REFUSED = 2
"""Attempts that the server refuses one after another before it is restarted."""
FULL_BYTES = 1 << 20
"""With less than this free, some write may have failed."""
PAUSE_S = 20.0
"""Seconds after a restart before the next one: what a restart does not mend, many do not."""


@dataclass(slots=True)
class BusFaults:
    """Decides when the server is to be restarted. Pure: times are arguments, in monotonic seconds."""

    _took_nothing: bool = False
    """Whether the disk took nothing at a time since the server started: then some stream may be broken."""
    _refused: int = 0
    """Attempts to write that the server refused, one after another."""
    _silent: int = 0
    """Attempts that it did not respond to."""
    _paused_until: float = 0.0

    def takes_nothing(self) -> None:
        """The disk is full, or can't be written."""
        self._took_nothing = True

    @property
    def suspected(self) -> bool:
        """Whether the last attempt failed."""
        return bool(self._refused or self._silent)

    def responded(self) -> None:
        """An attempt succeeded."""
        self._refused = self._silent = 0

    def refused(self) -> None:
        """The server refused an attempt."""
        self._refused, self._silent = self._refused + 1, 0

    def unanswered(self) -> None:
        """The server did not respond to an attempt within `PROBE_S`."""
        self._silent += 1

    def why_restart(self, now: float, *, writable: bool) -> str | None:
        """Why the server is to be restarted now; None: it is not.

        Args:
            now: Seconds.
            writable: Whether it could write; otherwise a restart would mend no write.
        """
        if now < self._paused_until:
            return None
        if writable and self._took_nothing:
            return "the disk took nothing for a while, and does again"
        if writable and self._refused >= REFUSED:
            return "it refuses to write, and the disk has room"
        if self._silent * PROBE_S >= BUS_HANG_S:
            return f"it did not respond for {BUS_HANG_S:g} s"
        return None

    def restarted(self, now: float) -> None:
        """The server is started again."""
        self._took_nothing, self._refused, self._silent, self._paused_until = False, 0, 0, now + PAUSE_S


class BusWatch:
    """Watches the server while `running`.

    Args:
        server: nats-server.
        url: The bus, with the owner's password.
        disk: Which it writes to.
    """

    def __init__(self, server: Child, url: str, disk: Disk, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._url = url
        self._disk = disk
        self._clock = clock
        self._bus = NatsBus(url, name="launcher", owner=True, leases_in_memory=True)
        self._faults = BusFaults()
        self._complete_for = 0
        """The restart of the server since which all buckets and streams are there."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make all buckets and streams, then watch while inside."""
        await provision(self._url, leases_in_memory=True)
        await self._bus.open(PROBE_S)
        try:
            async with (
                background(self._complete(), "keep the bus complete"),
                background(self._run(), "watch the bus"),
            ):
                yield
        finally:
            await self._bus.drain()

    async def _complete(self) -> None:
        """Make after each start of the server what it does not keep: leases are in its memory."""
        while True:
            await asyncio.sleep(LOOK_S / 5)
            if self._server.restarts == self._complete_for or not self._server.running:
                continue
            restarts = self._server.restarts
            try:
                await provision(self._url, timeout=PROBE_S, leases_in_memory=True)
            except LlmosError as error:
                _log.warning("bus.not_complete", error=error.message, retrying=True)
                self._note(error)
            else:
                self._faults.responded()
                self._complete_for = restarts
                _log.info("bus.complete", restarts=restarts)

    async def _run(self) -> None:
        probed = written = self._clock()
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._server.running:
                continue
            writable, complete = self._writable(), self._server.restarts == self._complete_for
            if not writable:
                written = -WRITE_S  # the first attempt when there is room again writes
            suspected = self._faults.suspected
            if complete and self._clock() - probed >= (PROBE_S if suspected else WELL_S):
                probed = self._clock()
                write = writable and (suspected or probed - written >= WRITE_S)
                written = probed if write else written
                await self._probe(write=write)
            if (why := self._faults.why_restart(self._clock(), writable=writable)) is not None:
                _log.error("bus.restarted", why=why, pid=self._server.pid)
                self._faults.restarted(self._clock())
                self._server.kill()

    def _writable(self) -> bool:
        state = self._disk.look()
        if state is not None and (state.free < FULL_BYTES or state.unwritable):
            self._faults.takes_nothing()
        return state is None or DiskUse.CHANGES not in state.problems

    async def _probe(self, *, write: bool) -> None:
        """Have the server write to each bucket on the disk, or only read."""
        buckets = [self._bus.kv(bucket.name) for bucket in BUCKETS if bucket.ttl is None]
        try:
            async with asyncio.timeout(PROBE_S):
                for bucket in buckets:
                    await (bucket.probe() if write else bucket.get("probe"))
        except (TimeoutError, LlmosError) as error:
            self._note(error)
        else:
            self._faults.responded()

    def _note(self, error: TimeoutError | LlmosError) -> None:
        if isinstance(error, TimeoutError | Disconnected | DeadlineExceeded):
            self._faults.unanswered()
        else:
            _log.warning("bus.not_writable", error=str(error))
            self._faults.refused()
