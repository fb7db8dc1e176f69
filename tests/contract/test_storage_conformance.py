"""What `shared.storage.port` promises, on every store."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.manifest import Kind
from shared.errors import Conflict, CorruptFile, InvalidInput, NotFound
from shared.storage.open import open_store
from shared.storage.port import CHUNK, ArtifactStore
from tests.support.factories.blobs import content, sha256, stream
from tests.support.harness.wait import eventually

MIB = 1 << 20
MULTIPART = 17 * MIB  # above the size at which S3 uploads take more than one part

_buckets = itertools.count()


@pytest.fixture(params=["directory", "s3"])
def store(request, tmp_path) -> ArtifactStore:
    if request.param == "directory":
        return open_store((tmp_path / "store").as_uri())
    server = request.getfixturevalue("s3_server")
    url = server.url(f"conformance-{next(_buckets)}")
    return open_store(url, access_key=server.access_key, secret_key=server.secret_key)


async def put(store: ArtifactStore, data: bytes) -> str:
    digest = sha256(data)
    assert await store.put_blob(digest, stream(data)) == len(data)
    return digest


async def read(store: ArtifactStore, digest: str) -> bytes:
    return b"".join([chunk async for chunk in store.read_blob(digest)])


async def untouchable() -> AsyncIterator[bytes]:
    raise AssertionError("the chunks of a blob that exists must not be read")
    yield b""


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, MULTIPART])
async def test_a_blob_comes_back_as_it_was_put(store, size):
    data = content(size)
    digest = await put(store, data)
    assert await store.blob_size(digest) == size
    assert await read(store, digest) == data


async def test_a_store_is_reached_without_the_proxy_of_the_environment(store, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await read(store, await put(store, b"data")) == b"data"


@pytest.mark.parametrize("piece", [1, 1000, 3 * CHUNK])
async def test_the_size_of_the_pieces_does_not_matter(store, piece):
    data = content(2000 if piece == 1 else 2 * CHUNK + 7)
    digest = sha256(data)
    await store.put_blob(digest, stream(data, piece), size=len(data))
    assert await read(store, digest) == data


@pytest.mark.parametrize("size", [0, 1, CHUNK + 1, MULTIPART])
async def test_a_blob_without_a_known_digest_gets_its_own(store, size):
    data = content(size)
    assert await store.put_new(stream(data)) == (sha256(data), size)
    assert await read(store, sha256(data)) == data
    assert await store.put_new(stream(data)) == (sha256(data), size)
    assert await store.blobs() == [sha256(data)]


async def test_a_new_blob_whose_bytes_end_early_leaves_nothing(store):
    async def cut():
        yield content(MULTIPART)
        raise InvalidInput("the client stopped")

    with pytest.raises(InvalidInput, match="the client stopped"):
        await store.put_new(cut())
    assert await store.blobs() == []


async def test_a_blob_that_comes_as_a_new_one_again_is_young_again(store):
    digest = await put(store, b"rows")
    before = (await store.blob_stats())[digest].modified
    await eventually(lambda: datetime.now(UTC) - before > timedelta(seconds=1.1))  # S3 counts in seconds
    await store.put_new(stream(b"rows"))
    assert (await store.blob_stats())[digest].modified > before


async def test_a_blob_that_is_not_there(store):
    digest = sha256(b"never put")
    assert await store.blob_size(digest) is None
    with pytest.raises(NotFound, match=digest):
        await read(store, digest)


async def test_fetching_a_blob_that_is_not_there_leaves_nothing_in_the_cache(store, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(NotFound):
        await store.fetch_blob(sha256(b"never put"), cache)
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 100, MULTIPART])
async def test_a_wrong_digest_leaves_nothing(store, size):
    promised = sha256(b"something else")
    with pytest.raises(CorruptFile, match=f"{promised}.* the {size} bytes that arrived hash to"):
        await store.put_blob(promised, stream(content(size)))
    assert await store.blob_size(promised) is None
    assert await store.blobs() == []


@pytest.mark.parametrize("size", [100, MULTIPART])
async def test_an_upload_whose_source_breaks_leaves_nothing_and_can_be_repeated(store, size):
    data = content(size)

    async def breaks() -> AsyncIterator[bytes]:
        yield data[:-1]
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError, match="the client went away"):
        await store.put_blob(sha256(data), breaks())
    assert await store.blobs() == []
    assert await read(store, await put(store, data)) == data


@pytest.mark.parametrize("size", [100, MULTIPART])
async def test_an_upload_under_way_is_invisible_and_leaves_nothing_when_cancelled(store, size):
    data = content(size)
    stalled = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield data[:-1]
        stalled.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.put_blob(sha256(data), stalls()))
    async with asyncio.timeout(20):
        await stalled.wait()
        assert await store.blob_size(sha256(data)) is None
        assert await store.blobs() == []
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    assert await store.blobs() == []
    assert await read(store, await put(store, data)) == data


async def test_a_blob_that_exists_is_not_read_again(store):
    data = content(1000)
    digest = await put(store, data)
    assert await store.put_blob(digest, untouchable()) == 1000


async def test_the_same_blob_from_many_at_once_is_one_blob(store):
    data = content(3 * MIB)
    sizes = await asyncio.gather(*(store.put_blob(sha256(data), stream(data)) for _ in range(4)))
    assert sizes == [len(data)] * 4
    assert await store.blobs() == [sha256(data)]
    assert await read(store, sha256(data)) == data


async def test_one_bad_upload_does_not_spoil_a_good_one_of_the_same_blob(store):
    data = content(3 * MIB)
    good, bad = await asyncio.gather(
        store.put_blob(sha256(data), stream(data)),
        store.put_blob(sha256(data), stream(data[:-1] + b"?")),
        return_exceptions=True,
    )
    assert good == len(data)
    assert isinstance(bad, CorruptFile) or bad == len(data)  # it may have come after the good one
    assert await read(store, sha256(data)) == data


async def test_a_fetched_blob_is_a_local_file(store, tmp_path):
    data = content(2 * MIB + 5)
    digest = await put(store, data)
    path = await store.fetch_blob(digest, tmp_path / "cache")
    assert path.read_bytes() == data
    assert await store.fetch_blob(digest, tmp_path / "cache") == path


async def test_a_deleted_blob_is_gone_and_deleting_it_again_is_no_error(store):
    digest = await put(store, b"short-lived")
    await store.delete_blob(digest)
    assert await store.blob_size(digest) is None
    await store.delete_blob(digest)
    assert await read(store, await put(store, b"short-lived")) == b"short-lived"


async def test_blobs_are_listed_with_size_and_time(store):
    digests = [await put(store, content(10 + seed, seed)) for seed in range(3)]
    assert await store.blobs() == sorted(digests)
    stats = await store.blob_stats()
    assert [stats[digest].size for digest in digests] == [10, 11, 12]
    assert all(abs(datetime.now(UTC) - stored.modified) < timedelta(minutes=1) for stored in stats.values())


async def test_manifests_are_written_once(store):
    await store.put_manifest("smollm2", 1, b'{"a":1}')
    await store.put_manifest("smollm2", 1, b'{"a":1}')
    with pytest.raises(Conflict, match="smollm2:1"):
        await store.put_manifest("smollm2", 1, b'{"a":2}')
    assert await store.get_manifest("smollm2", 1) == b'{"a":1}'


async def test_manifests_are_listed_by_model_and_number(store):
    for model, version in (("b", 10), ("b", 2), ("a.b-c_d", 1)):
        await store.put_manifest(model, version, b"{}")
    assert await store.manifests() == [("a.b-c_d", 1), ("b", 2), ("b", 10)]
    stats = await store.manifest_stats()
    assert stats["b", 10].size == 2


async def test_each_kind_has_manifests_of_its_own(store):
    await store.put_manifest("support", 1, b'{"a":1}')
    await store.put_manifest("support", 1, b'{"b":1}', Kind.DATASET)
    await store.put_manifest("support", 2, b"{}", Kind.DATASET)
    assert await store.get_manifest("support", 1) == b'{"a":1}'
    assert await store.get_manifest("support", 1, Kind.DATASET) == b'{"b":1}'
    assert (await store.manifests(), await store.manifests(Kind.REPORT)) == ([("support", 1)], [])
    await store.delete_manifest("support", 1, Kind.DATASET)
    assert list(await store.manifest_stats(Kind.DATASET)) == [("support", 2)]
    assert await store.manifests() == [("support", 1)]


async def test_a_manifest_that_is_not_there(store):
    assert await store.get_manifest("smollm2", 1) is None
    await store.delete_manifest("smollm2", 1)
    assert await store.manifests() == []


async def test_a_deleted_manifest_is_gone(store):
    await store.put_manifest("smollm2", 1, b"{}")
    await store.delete_manifest("smollm2", 1)
    assert await store.get_manifest("smollm2", 1) is None
    assert await store.manifests() == []


async def test_the_same_manifest_from_many_at_once_is_no_conflict(store):
    await asyncio.gather(*(store.put_manifest("smollm2", 1, b"{}") for _ in range(4)))
    assert await store.get_manifest("smollm2", 1) == b"{}"


BAD_DIGESTS = ["", "ab", "AB" * 32, "../" * 21 + "a", "ab" * 32 + "\n", "ab" * 31 + "/.", "ab" * 33, "é" * 64]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
async def test_what_is_no_digest_is_refused_before_anything_is_read_or_written(store, digest, tmp_path):
    for attempt in (
        store.blob_size(digest),
        store.put_blob(digest, untouchable()),
        read(store, digest),
        store.fetch_blob(digest, tmp_path / "cache"),
        store.delete_blob(digest),
    ):
        with pytest.raises(InvalidInput, match="is not a digest"):
            await attempt


BAD_MODELS = ["", ".", "..", "../x", "a/b", "/etc", "A", "a\n", "a\0", "x" * 65, "-a", "a-"]


@pytest.mark.parametrize("model", BAD_MODELS)
async def test_what_is_no_model_name_is_refused(store, model):
    for attempt in (
        store.put_manifest(model, 1, b"{}"),
        store.get_manifest(model, 1),
        store.delete_manifest(model, 1),
    ):
        with pytest.raises(InvalidInput, match="is not a model name"):
            await attempt


@pytest.mark.parametrize("version", [0, -1, 1_000_000_000])
async def test_what_is_no_version_is_refused(store, version):
    with pytest.raises(InvalidInput, match="is not a version"):
        await store.put_manifest("smollm2", version, b"{}")


async def test_a_store_that_works_is_ready_and_stays_empty(store):
    assert await store.ready() is None
    assert await store.ready() is None
    assert (await store.blobs(), await store.manifests()) == ([], [])


async def test_a_reader_that_stops_early_holds_nothing(store):
    digest = await put(store, content(3 * CHUNK))
    reader = store.read_blob(digest)
    async for _ in reader:
        break
    await reader.aclose()
    await store.delete_blob(digest)
    assert await store.blob_size(digest) is None


async def test_documents_are_replaced_listed_and_removed(store):
    assert await store.get_document("system.json") is None
    for data in (b"one", b"two"):
        await store.put_document("system.json", data)
        assert await store.get_document("system.json") == data
    await store.put_document("snapshots/a.json.gz", b"abc")
    assert {name: stored.size for name, stored in (await store.snapshots()).items()} == {"snapshots/a.json.gz": 3}
    assert await store.blobs() == []
    assert await store.manifests() == []
    await store.delete_document("snapshots/a.json.gz")
    await store.delete_document("snapshots/a.json.gz")
    assert await store.snapshots() == {}


@pytest.mark.parametrize("name", ["", "other.json", "snapshots/../system.json", "snapshots/a", "blobs/x.json.gz"])
async def test_a_document_of_another_name_is_refused(store, name):
    with pytest.raises(InvalidInput, match="is not a document"):
        await store.put_document(name, b"")
