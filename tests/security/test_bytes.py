"""Bytes are what their digest says, wherever they lie: in the store, in a node's cache, on their way."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from devtools.jobs.files import fetch_file
from services.gateway.admin.blobs import BlobsApi
from services.inference.agent.damage import reporting
from services.inference.agent.fetches import Fetches
from services.inference.agent.version_files import version_folder
from shared.contracts.manifest import Manifest, ManifestFile
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile, NotFound, StorageFull
from shared.storage.directory import DirectoryStore
from shared.storage.layout import blob_key
from tests.support.harness.events import events_of

DATA = b"weights" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
FILE = ManifestFile(path="model.onnx", digest=DIGEST, size=len(DATA))


async def chunks(data: bytes = DATA) -> AsyncIterator[bytes]:
    yield data[:100]
    yield data[100:]


def change(path: Path) -> None:
    """Another byte, as a bad disk or a person leaves it: size and times stay."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(5)
        byte = file.read(1)
        file.seek(5)
        file.write(bytes([byte[0] ^ 1]))

    os.utime(path, ns=times)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(root: Path) -> DirectoryStore:
    store = DirectoryStore(root)
    await store.put_blob(DIGEST, chunks())
    return store


@pytest.fixture
def version() -> tuple[Manifest, str]:
    manifest = Manifest.EXAMPLE.model_copy(update={"files": (FILE,)})
    return manifest, hashlib.sha256(manifest.encode()).hexdigest()


async def test_a_changed_blob_is_never_read_to_its_end(store: DirectoryStore, root: Path) -> None:
    assert b"".join([chunk async for chunk in store.read_blob(DIGEST)]) == DATA
    change(root / blob_key(DIGEST))
    taken = bytearray()

    async def read() -> None:
        async for chunk in store.read_blob(DIGEST):
            taken.extend(chunk)

    with pytest.raises(CorruptFile, match=DIGEST):
        await read()
    assert len(taken) < len(DATA)


async def test_an_upload_replaces_a_blob_that_was_changed(store: DirectoryStore, root: Path) -> None:
    assert await store.holds_blob(DIGEST)
    change(root / blob_key(DIGEST))
    assert not await store.holds_blob(DIGEST)
    assert await store.put_blob(DIGEST, chunks()) == len(DATA)
    assert (root / blob_key(DIGEST)).read_bytes() == DATA
    assert await store.holds_blob(DIGEST)


async def test_the_gateway_asks_for_a_changed_blob_again_and_takes_it(store: DirectoryStore, root: Path) -> None:
    blobs = BlobsApi(store)
    routes = [
        Route("/blobs/{digest}", blobs.show, methods=["GET"]),
        Route("/blobs/{digest}", blobs.put, methods=["PUT"]),
    ]
    transport = httpx.ASGITransport(
        Starlette(routes=routes, exception_handlers={NotFound: lambda *_: Response(status_code=404)})
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.head(f"/blobs/{DIGEST}")).status_code == 200
        change(root / blob_key(DIGEST))
        assert (await client.head(f"/blobs/{DIGEST}")).status_code == 404
        assert (await client.put(f"/blobs/{DIGEST}", content=DATA)).status_code == 201
        assert (await client.get(f"/blobs/{DIGEST}")).content == DATA
        assert (await client.put(f"/blobs/{DIGEST}", content=DATA)).status_code == 200


async def test_what_is_done_to_a_nodes_copy_does_not_reach_the_store(
    store: DirectoryStore, version: tuple[Manifest, str], tmp_path: Path
) -> None:
    async with version_folder(store, *version, tmp_path / "cache") as folder:
        change(folder / "model.onnx")
    assert await store.holds_blob(DIGEST)


async def test_copies_of_a_local_store_count_against_the_limit_of_the_cache(root: Path, tmp_path: Path) -> None:
    store = DirectoryStore(root, cache_limit=len(DATA) - 1)
    await store.put_blob(DIGEST, chunks())
    with pytest.raises(StorageFull, match="may hold"):
        await store.fetch_blob(DIGEST, tmp_path / "cache")


async def test_copies_of_a_local_store_that_nothing_uses_are_not_kept(root: Path, tmp_path: Path) -> None:
    async def copies(store: DirectoryStore, *texts: bytes) -> int:
        for text in texts:
            digest = hashlib.sha256(text).hexdigest()
            await store.put_blob(digest, chunks(text))
            await store.fetch_blob(digest, tmp_path / "cache")
        return len(list((tmp_path / "cache" / "blobs").iterdir()))

    first = DirectoryStore(root)
    assert await copies(first, b"a" * 200, b"b" * 200) == 2, "this process holds both"
    for text in (b"a" * 200, b"b" * 200):
        first._caches._caches[tmp_path / "cache"].release(hashlib.sha256(text).hexdigest())
    assert await copies(DirectoryStore(root), b"c" * 200) == 1


async def test_a_changed_copy_is_named_dropped_and_fetched_again_before_it_is_loaded(
    store: DirectoryStore, version: tuple[Manifest, str], tmp_path: Path
) -> None:
    reported: list[ManifestFile] = []

    async def report(file: ManifestFile) -> None:
        reported.append(file)

    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(version_folder(store, *version, tmp_path / "cache", report))
        change(folder / "model.onnx")
        # another replica starts while the first one runs
        again = await stack.enter_async_context(version_folder(store, *version, tmp_path / "cache", report))
        assert (again / "model.onnx").read_bytes() == DATA
    assert reported == [FILE]


async def test_a_version_that_is_damaged_in_the_store_is_not_loaded_and_its_file_is_named(
    store: DirectoryStore, version: tuple[Manifest, str], root: Path, tmp_path: Path
) -> None:
    change(root / blob_key(DIGEST))
    with pytest.raises(CorruptFile, match=r"model\.onnx.*import the model again"):
        async with version_folder(store, *version, tmp_path / "cache"):
            pass
    await store.put_blob(DIGEST, chunks())
    async with version_folder(store, *version, tmp_path / "cache") as folder:
        assert (folder / "model.onnx").read_bytes() == DATA


async def test_a_job_gets_no_changed_copy_either(store: DirectoryStore, tmp_path: Path) -> None:
    change(await store.fetch_blob(DIGEST, tmp_path / "cache"))
    await fetch_file(store, FILE, tmp_path / "job" / "data", tmp_path / "cache")
    assert (tmp_path / "job" / "data").read_bytes() == DATA


async def test_a_node_mends_its_cache_before_a_replica_loads_it_again_and_tells(
    bus, small_store, tmp_path: Path
) -> None:
    folder, digest = small_store
    assignment = ReplicaAssignment.EXAMPLE.model_copy(update={"model": "small", "version": 1, "digest": digest})
    arrived = asyncio.Event()
    fetches = Fetches(DirectoryStore(folder), tmp_path / "cache", arrived.set, partial(reporting, bus, node="node-a"))
    fetches.folder(assignment)
    await asyncio.wait_for(arrived.wait(), 60)
    files = fetches.folder(assignment)
    assert files is not None
    await fetches.verify(assignment)  # was checked when it arrived
    good = (files / "model.onnx.data").read_bytes()
    change(files / "model.onnx.data")
    await fetches.verify(assignment)
    assert (files / "model.onnx.data").read_bytes() == good
    events = await events_of(bus, kind="blob.damaged")
    assert [(event.name, event.detail["file"]) for event in events] == [
        (hashlib.sha256(good).hexdigest(), "model.onnx.data")
    ]
    await fetches.keep_only(set())
