"""Reads all blobs of one place again and again, slowly, and says which are damaged.

The record in KV has the position, so a restarted process goes on where the last one was. It also has who scrubs: of
several processes (registries) one does, and another takes over when that one has not renewed the record.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from shared.audit.trail import Trail
from shared.bus.port import Bus
from shared.contracts.events import CHAINS
from shared.contracts.scrub import MAX_DAMAGED, SCRUBS_BUCKET, STORE, BlobState, DamagedBlob, Scrub, scrub_key
from shared.errors import Conflict, LlmosError, Unavailable
from shared.storage.check import check_blob, paced

_log = structlog.get_logger("llmos.scrub")

RENEW_S = 10.0
TAKE_OVER_S = 60.0
LOOK_S = 5.0
"""Seconds between two looks at whether a pass is due."""
ATTEMPTS = 3
"""Times that a blob is read that can't be, before it counts as damaged."""


class Blobs(Protocol):
    """What is scrubbed."""

    async def digests(self) -> list[str]:
        """All blobs, sorted."""

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """As `ArtifactStore.read_blob`."""

    async def files(self, digest: str) -> tuple[str, ...]:
        """Whose bytes a blob has, for people: `smollm2:1 model.onnx.data`."""


class Scrubber:
    """Scrubs the store, or the cache of a node.

    Args:
        bus: For the record and the events.
        blobs: What is read.
        service: That publishes the events.
        actor: This process, by instance.
        node: Whose cache it is; None: the store.
        rate: Bytes a second.
        interval: Seconds from the beginning of a pass to that of the next.
        now: The time in UTC.
        pause: Seconds that a loop sleeps which has nothing to do.
    """

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        *,
        service: str,
        actor: str,
        node: str | None,
        rate: int,
        interval: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: float = LOOK_S,
    ) -> None:
        self._trail = Trail(bus, CHAINS[service], actor=actor, node=node or "", now=now)
        self._kv = bus.kv(SCRUBS_BUCKET)
        self._blobs = blobs
        self._actor = actor
        self._node = node
        self._key = scrub_key(node)
        self._rate = rate
        self._interval = timedelta(seconds=interval)
        self._now = now
        self._pause = pause
        self._record: Scrub | None = None
        self._revision = 0

    async def run(self) -> None:
        """Scrub until cancelled; returns at once where the rate is 0."""
        while self._rate:
            try:
                if await self._claim():
                    await self._pass()
            except Conflict:
                _log.info("scrub.taken_over", place=self._key)
            except LlmosError as error:
                _log.warning("scrub.interrupted", place=self._key, error=error.message, retrying=True)
            await asyncio.sleep(self._pause)

    async def _claim(self) -> bool:
        """Whether a pass is due, or goes on, and is ours; its record is `_record` then."""
        entry = await self._kv.get(self._key)
        now = self._now()
        if entry is None:
            self._record = self._new_pass(now, ())
            self._revision = await self._kv.create(self._key, self._record.encode())
            return True
        found = Scrub.decode(entry.value)
        if found.ended_at is None:
            if found.actor != self._actor and now - found.renewed_at < timedelta(seconds=TAKE_OVER_S):
                return False
            self._record = found.model_copy(update={"actor": self._actor})
        elif now - found.began_at < self._interval:
            return False
        else:
            self._record = self._new_pass(now, found.damaged)
        self._revision = entry.revision
        await self._write()
        return True

    def _new_pass(self, now: datetime, damaged: tuple[DamagedBlob, ...]) -> Scrub:
        place = STORE if self._node is None else self._node
        return Scrub(place=place, actor=self._actor, renewed_at=now, began_at=now, damaged=damaged)

    async def _pass(self) -> None:
        assert self._record is not None
        digests = await self._blobs.digests()
        for digest in digests:
            if digest > self._record.position:
                await self._check(digest)
                await asyncio.sleep(0)
        there = set(digests)
        left = tuple(one for one in self._record.damaged if one.digest in there)
        await self._write(ended_at=self._now(), damaged=left)
        _log.info(
            "scrub.ended", place=self._key, blobs=self._record.blobs, bytes=self._record.bytes, damaged=len(left)
        )

    async def _check(self, digest: str) -> None:
        assert self._record is not None
        state, size = await self._state(digest)
        damaged = {one.digest: one for one in self._record.damaged}
        if state is not BlobState.DAMAGED:
            damaged.pop(digest, None)
        elif digest not in damaged:
            damaged[digest] = await self._report(digest)
        changed = damaged.keys() != {one.digest for one in self._record.damaged}
        self._record = self._record.model_copy(
            update={
                "position": digest,
                "blobs": self._record.blobs + 1,
                "bytes": self._record.bytes + size,
                "damaged": tuple(damaged.values())[:MAX_DAMAGED],
            }
        )
        if changed:
            await self._write()
        else:
            await self._renew()

    async def _state(self, digest: str) -> tuple[BlobState, int]:
        slowly = paced(self._rate)

        async def pause(count: int) -> None:
            await slowly(count)
            await self._renew()

        for attempt in range(ATTEMPTS):
            try:
                checked = await check_blob(self._blobs.read(digest), pause)
            except Unavailable as error:
                await self._blobs.digests()  # the place itself is there, or the pass is interrupted
                _log.warning("blob.unreadable", digest=digest, place=self._key, error=error.message)
                if attempt < ATTEMPTS - 1:
                    await asyncio.sleep(self._pause)
            else:
                return checked.state, checked.size
        return BlobState.DAMAGED, 0

    async def _report(self, digest: str) -> DamagedBlob:
        files = await self._blobs.files(digest)
        detail = {"place": self._key, "files": ", ".join(files)}
        consequence = "it is fetched again when it is loaded" if self._node else "import it again, which replaces it"
        _log.error("blob.damaged", digest=digest, **detail, consequence=consequence)
        found_at = self._now()
        await self._trail.note("blob.damaged", digest, **detail)
        return DamagedBlob(digest=digest, files=files, found_at=found_at)

    async def _renew(self) -> None:
        assert self._record is not None
        if self._now() - self._record.renewed_at >= timedelta(seconds=RENEW_S):
            await self._write()

    async def _write(self, **changes: object) -> None:
        assert self._record is not None
        self._record = self._record.model_copy(update={**changes, "renewed_at": self._now()})
        self._revision = await self._kv.update(self._key, self._record.encode(), self._revision)
