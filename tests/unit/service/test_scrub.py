"""The background check of stored blobs: goes on where it was, and says what is damaged."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.bus.memory.bus import MemoryBus
from shared.contracts.scrub import SCRUBS_BUCKET, BlobState, Scrub, scrub_key
from shared.errors import Unavailable
from shared.service.background import background
from shared.service.scrub import Scrubber
from shared.storage.check import check_blob, paced, read_file
from tests.support.harness.events import events_of
from tests.support.harness.wait import eventually

FAST = 1 << 40


class Files:
    """Blobs in a folder; each read is recorded, and one may be held up or fail."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.reads: list[str] = []
        self.held: str | None = None
        self.failing: set[str] = set()
        for number in range(count):
            data = b"blob %d" % number * 100
            (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)

    async def digests(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        self.reads.append(digest)
        if digest in self.failing:
            raise Unavailable("input/output error")
        while digest == self.held:  # noqa: ASYNC110  # the test changes it
            await asyncio.sleep(0.01)
        async for chunk in read_file(self.folder / digest, digest):
            yield chunk

    async def files(self, digest: str) -> tuple[str, ...]:
        return (f"file {digest[:4]}",)

    def damage(self, digest: str) -> bytes:
        path = self.folder / digest
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"\xff")
        return whole


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


def scrubber(bus: MemoryBus, files: Files, clock: Clock, *, actor: str = "one", rate: int = FAST) -> Scrubber:
    return Scrubber(
        bus, files, service="registry", actor=actor, node=None, rate=rate, interval=100, now=clock, pause=0.01
    )


async def record(bus: MemoryBus) -> Scrub:
    entry = await bus.kv(SCRUBS_BUCKET).get(scrub_key(None))
    assert entry is not None
    return Scrub.decode(entry.value)


async def ended(bus: MemoryBus, began_at: datetime) -> Scrub:
    async def look() -> Scrub | None:
        found = await record(bus)
        return found if found.ended_at and found.began_at == began_at else None

    found = await eventually(look)
    assert found is not None
    return found


async def test_damage_is_an_event_and_stands_in_the_record_until_it_is_healed(tmp_path: Path) -> None:
    bus, files, clock = MemoryBus(), Files(tmp_path, 5), Clock()
    bad = (await files.digests())[2]
    whole = files.damage(bad)
    async with background(scrubber(bus, files, clock).run(), "scrub"):
        found = await ended(bus, clock.time)
        assert (found.blobs, found.bytes) == (5, 4 * 600)
        assert [(one.digest, one.files) for one in found.damaged] == [(bad, (f"file {bad[:4]}",))]
        assert [event.name for event in await events_of(bus)] == [bad]
        clock.time += timedelta(seconds=100)
        assert (await ended(bus, clock.time)).damaged == found.damaged, "found_at is that of the first time"
        (tmp_path / bad).write_bytes(whole)
        clock.time += timedelta(seconds=100)
        assert not (await ended(bus, clock.time)).damaged
    assert len(await events_of(bus)) == 1


async def test_a_deleted_blob_is_not_damaged_any_more(tmp_path: Path) -> None:
    bus, files, clock = MemoryBus(), Files(tmp_path, 3), Clock()
    bad = (await files.digests())[0]
    files.damage(bad)
    async with background(scrubber(bus, files, clock).run(), "scrub"):
        assert (await ended(bus, clock.time)).damaged
        (tmp_path / bad).unlink()
        clock.time += timedelta(seconds=100)
        assert not (await ended(bus, clock.time)).damaged


async def test_a_restarted_process_goes_on_where_it_was(tmp_path: Path) -> None:
    bus, files, clock = MemoryBus(), Files(tmp_path, 6), Clock()
    digests = await files.digests()
    files.held = digests[3]
    async with background(scrubber(bus, files, clock).run(), "scrub"):
        await eventually(lambda: files.reads[-1:] == digests[3:4])
        clock.time += timedelta(seconds=30)  # while this one is read, the record is renewed
        files.held = digests[4]
        await eventually(lambda: files.reads[-1:] == digests[4:5])
    files.reads.clear()
    files.held = None
    clock.time += timedelta(seconds=61)
    async with background(scrubber(bus, files, clock, actor="two").run(), "scrub"):
        found = await ended(bus, datetime(2026, 11, 30, tzinfo=UTC))
    assert files.reads == digests[3:]
    assert found.blobs == 6


async def test_one_of_several_processes_scrubs(tmp_path: Path) -> None:
    bus, files, clock = MemoryBus(), Files(tmp_path, 4), Clock()
    digests = await files.digests()
    files.held = digests[1]
    async with background(scrubber(bus, files, clock).run(), "scrub"):
        await eventually(lambda: len(files.reads) == 2)
        others = Files(tmp_path, 4)
        async with background(scrubber(bus, others, clock, actor="two").run(), "scrub"):
            files.held = None
            await ended(bus, clock.time)
        assert not others.reads
        assert files.reads == digests


async def test_a_blob_that_can_not_be_read_is_damaged(tmp_path: Path) -> None:
    bus, files, clock = MemoryBus(), Files(tmp_path, 3), Clock()
    bad = (await files.digests())[1]
    files.failing = {bad}
    async with background(scrubber(bus, files, clock).run(), "scrub"):
        found = await ended(bus, clock.time)
    assert [one.digest for one in found.damaged] == [bad]
    assert found.blobs == 3


async def test_a_rate_of_0_scrubs_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path, 3)
    await scrubber(MemoryBus(), files, Clock(), rate=0).run()
    assert not files.reads


async def test_bytes_come_no_faster_than_the_rate() -> None:
    loop = asyncio.get_running_loop()
    pause, begun = paced(1_000_000), loop.time()
    for _ in range(20):
        await pause(10_000)
    assert loop.time() - begun >= 0.19


@pytest.mark.parametrize("state", list(BlobState))
async def test_a_check_says_what_a_file_is(tmp_path: Path, state: BlobState) -> None:
    files = Files(tmp_path, 1)
    (digest,) = await files.digests()
    if state is BlobState.DAMAGED:
        files.damage(digest)
    elif state is BlobState.MISSING:
        (tmp_path / digest).unlink()
    checked = await check_blob(read_file(tmp_path / digest, digest))
    assert checked.state is state
    assert checked.size == (600 if state is BlobState.WHOLE else 0)
