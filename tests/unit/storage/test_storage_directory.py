import asyncio
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import StorageFull, Unavailable
from shared.storage.directory import DirectoryStore
from tests.support.factories.blobs import content, sha256, stream

MIB = 1 << 20


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel refuses to let a file of this process grow above `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def tiny_disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_leaves_nothing_and_the_store_goes_on(tiny_disk):
    store = DirectoryStore(tiny_disk)
    small, large = content(1 * MIB), content(8 * MIB)
    await store.put_blob(sha256(small), stream(small))
    with pytest.raises(StorageFull, match=r"found no room in .*disk: .* of which 245\.8 KiB are for changes"):
        await store.put_blob(sha256(large), stream(large))
    assert await store.blobs() == [sha256(small)]
    assert not files(tiny_disk / "incoming")
    await store.delete_blob(sha256(small))
    medium = content(3 * MIB)
    assert await store.put_blob(sha256(medium), stream(medium)) == 3 * MIB


async def test_a_blob_of_known_size_is_refused_before_its_first_byte(tiny_disk):
    async def untouchable() -> AsyncIterator[bytes]:
        raise AssertionError("there is no room: nothing should be taken")
        yield b""

    store = DirectoryStore(tiny_disk)
    with pytest.raises(StorageFull, match=r"8\.0 MiB needed, 4\.0 MiB free"):
        await store.put_blob(sha256(b""), untouchable(), size=8 * MIB)


async def test_a_full_disk_is_not_ready_and_says_why(tiny_disk):
    store = DirectoryStore(tiny_disk)
    filler = content(4 * MIB)
    (tiny_disk / "other").touch()
    with (tiny_disk / "other").open("wb", buffering=0) as other:
        other.write(filler)
    assert "found no room" in (await store.ready() or "")
    with pytest.raises(StorageFull, match="writing the manifest of model m:1"):
        await store.put_manifest("m", 1, b"{}" * 4096)
    assert await store.manifests() == []
    (tiny_disk / "other").unlink()
    assert await store.ready() is None


async def test_a_file_size_limit_is_a_full_store_and_leaves_nothing(tmp_path):
    store = DirectoryStore(tmp_path)
    data = content(3 * MIB)
    with file_size_limit(2 * MIB), pytest.raises(StorageFull, match=r"at least 3\.0 MiB needed"):
        await store.put_blob(sha256(data), stream(data), size=len(data))
    assert files(tmp_path) == []
    assert await store.put_blob(sha256(data), stream(data)) == len(data)


async def test_what_a_killed_process_left_is_removed_when_the_store_is_opened_again(tmp_path):
    writer = f"""
        import asyncio, os, signal
        from pathlib import Path
        from shared.storage.directory import DirectoryStore

        async def dies():
            yield bytes({2 * MIB})
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(DirectoryStore(Path({str(tmp_path)!r})).put_blob("ab" * 32, dies()))
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(writer))
    assert await process.wait() == -9
    assert [name.split("/")[0] for name in files(tmp_path)] == ["incoming"]
    store = DirectoryStore(tmp_path)
    assert files(tmp_path) == []
    assert await store.blobs() == []


async def test_opening_the_store_leaves_uploads_under_way_alone(tmp_path):
    data = content(MIB + 1)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pauses() -> AsyncIterator[bytes]:
        yield data[:MIB]
        reached.set()
        await go_on.wait()
        yield data[MIB:]

    upload = asyncio.create_task(DirectoryStore(tmp_path).put_blob(sha256(data), pauses()))
    await reached.wait()
    other = DirectoryStore(tmp_path)
    go_on.set()
    assert await upload == len(data)
    assert await other.blobs() == [sha256(data)]


async def test_fetched_files_are_copies_that_cannot_be_written_by_mistake(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    await store.put_blob(sha256(b"x"), stream(b"x"))
    path = await store.fetch_blob(sha256(b"x"), tmp_path / "cache")
    assert path.is_relative_to(tmp_path / "cache")
    assert path.stat().st_mode & 0o222 == 0
    assert not path.samefile(tmp_path / "store" / "blobs" / "sha256" / sha256(b"x")[:2] / sha256(b"x"))


async def test_files_that_are_not_ours_are_not_listed(tmp_path):
    store = DirectoryStore(tmp_path)
    await store.put_manifest("m", 1, b"{}")
    (tmp_path / "manifests" / "m" / "notes.txt").touch()
    (tmp_path / "manifests" / "m" / "01.json").touch()
    wrong_folder = tmp_path / "blobs" / "sha256" / "ff" / sha256(b"")
    wrong_folder.parent.mkdir(parents=True)
    wrong_folder.touch()
    assert await store.blobs() == []
    assert await store.manifests() == [("m", 1)]


def test_a_store_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"opening the store failed in .*/file/store: File exists"):
        DirectoryStore(tmp_path / "file" / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_store_without_write_permission_is_not_ready(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    (tmp_path / "store" / "incoming").chmod(0o500)
    try:
        assert "Permission denied" in (await store.ready() or "")
    finally:
        (tmp_path / "store" / "incoming").chmod(0o700)
