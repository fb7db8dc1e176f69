import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import CorruptFile, StorageFull
from shared.storage import cache as blob_cache
from shared.storage.cache import BlobCache
from tests.support.factories.blobs import content, sha256, stream
from tests.support.harness.wait import eventually

BLOBS = [content(100, seed) for seed in range(4)]


async def add(cache: BlobCache, data: bytes) -> Path:
    return await cache.add(sha256(data), len(data), stream(data))


def cached(folder: Path) -> set[str]:
    return {path.name for path in (folder / "blobs").iterdir()}


def age(path: Path, seconds: float) -> None:
    """Make a copy's last use older."""
    used = path.stat().st_mtime - seconds
    os.utime(path, (used, used))


async def test_a_copy_is_found_again(tmp_path):
    cache = BlobCache(tmp_path, limit=None)
    assert await cache.hold(sha256(BLOBS[0])) is None
    path = await add(cache, BLOBS[0])
    assert path.read_bytes() == BLOBS[0]
    assert await BlobCache(tmp_path, limit=None).hold(sha256(BLOBS[0])) == path


async def test_a_copy_that_arrives_damaged_is_refused_and_leaves_nothing(tmp_path):
    cache = BlobCache(tmp_path, limit=None)
    with pytest.raises(CorruptFile):
        await cache.add(sha256(BLOBS[0]), 100, stream(BLOBS[1]))
    assert not cached(tmp_path)
    assert not list((tmp_path / "incoming").iterdir())
    await add(cache, BLOBS[0])


async def test_the_least_recently_used_is_evicted(tmp_path):
    writer = BlobCache(tmp_path, limit=300)
    for number, data in enumerate(BLOBS[:3]):
        age(await add(writer, data), 100 - number)
        writer.release(sha256(data))
    assert await writer.hold(sha256(BLOBS[0])) is not None  # used just now
    writer.release(sha256(BLOBS[0]))
    await add(writer, BLOBS[3])
    assert cached(tmp_path) == {sha256(BLOBS[number]) for number in (0, 2, 3)}


async def test_what_is_in_use_is_never_evicted(tmp_path):
    one, other = BlobCache(tmp_path, limit=200), BlobCache(tmp_path, limit=200)
    held = await add(one, BLOBS[0])
    age(held, 1000)
    await add(other, BLOBS[1])
    other.release(sha256(BLOBS[1]))
    await add(other, BLOBS[2])
    assert cached(tmp_path) == {sha256(BLOBS[0]), sha256(BLOBS[2])}
    with pytest.raises(StorageFull, match="may hold 200 B: 100 B more needed, 200 B in use"):
        await add(other, BLOBS[3])
    assert held.read_bytes() == BLOBS[0]
    one.release(sha256(BLOBS[0]))
    await add(other, BLOBS[3])


async def test_what_is_linked_into_a_folder_counts_and_is_not_evicted(tmp_path):
    cache = BlobCache(tmp_path / "cache", limit=100)
    path = await add(cache, BLOBS[0])
    cache.release(sha256(BLOBS[0]))
    (tmp_path / "model.onnx").hardlink_to(path)
    with pytest.raises(StorageFull, match="in use"):
        await add(cache, BLOBS[1])
    (tmp_path / "model.onnx").unlink()
    await add(cache, BLOBS[1])


async def test_a_blob_above_the_limit_is_refused_before_its_first_byte(tmp_path):
    async def untouchable() -> AsyncIterator[bytes]:
        raise AssertionError("there is no room: nothing should be taken")
        yield b""

    with pytest.raises(StorageFull, match="may hold 99 B"):
        await BlobCache(tmp_path, limit=99).add(sha256(BLOBS[0]), 100, untouchable())


async def test_a_blob_wanted_by_two_at_once_arrives_once(tmp_path, monkeypatch):
    arrivals, waiting, try_lock = 0, set(), blob_cache._try_lock

    def noted(descriptor: int) -> bool:
        mine = try_lock(descriptor)
        if not mine:
            waiting.add(descriptor)
        return mine

    async def counted() -> AsyncIterator[bytes]:
        nonlocal arrivals
        arrivals += 1
        await eventually(lambda: len(waiting) == 2)
        yield BLOBS[0]

    monkeypatch.setattr(blob_cache, "_try_lock", noted)

    caches = [BlobCache(tmp_path, limit=None) for _ in range(3)]
    paths = await asyncio.gather(*(cache.add(sha256(BLOBS[0]), 100, counted()) for cache in caches))
    assert len(set(paths)) == 1
    assert arrivals == 1


async def test_a_failed_arrival_lets_the_next_have_its_turn(tmp_path):
    arriving = asyncio.Event()
    fail = asyncio.Event()

    async def breaks() -> AsyncIterator[bytes]:
        arriving.set()
        await fail.wait()
        raise ConnectionResetError
        yield b""

    first = asyncio.create_task(BlobCache(tmp_path, limit=None).add(sha256(BLOBS[0]), 100, breaks()))
    await arriving.wait()
    second = asyncio.create_task(add(BlobCache(tmp_path, limit=None), BLOBS[0]))
    fail.set()
    with pytest.raises(ConnectionResetError):
        await first
    assert (await second).read_bytes() == BLOBS[0]


async def test_a_killed_process_holds_nothing(tmp_path):
    holder = f"""
        import asyncio
        from pathlib import Path
        from shared.storage.cache import BlobCache
        from tests.support.factories.blobs import content, sha256, stream

        async def main():
            data = content(100, 0)
            cache = BlobCache(Path({str(tmp_path)!r}), limit=100)
            await cache.add(sha256(data), 100, stream(data))
            print("holding", flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    cache = BlobCache(tmp_path, limit=100)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(holder), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"holding\n"
        with pytest.raises(StorageFull, match="in use"):
            await add(cache, BLOBS[1])
    finally:
        process.kill()
        await process.communicate()
    await add(cache, BLOBS[1])
    assert cached(tmp_path) == {sha256(BLOBS[1])}
