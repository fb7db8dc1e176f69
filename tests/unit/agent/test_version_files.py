import asyncio
import hashlib
from contextlib import AsyncExitStack

import pytest

from services.inference.agent import version_files
from services.inference.agent.version_files import fetch_manifest, version_folder
from shared.contracts.manifest import Manifest, ManifestFile
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile, NotFound
from shared.storage.directory import DirectoryStore

CONTENTS = {"model.onnx": b"graph", "model.onnx.data": b"weights" * 100, "nested/tokenizer.json": b"{}"}


async def chunks(data):
    yield data


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
async def version(store):
    files = []
    for path, data in CONTENTS.items():
        digest = hashlib.sha256(data).hexdigest()
        await store.put_blob(digest, chunks(data))
        files.append(ManifestFile(path=path, digest=digest, size=len(data)))
    manifest = Manifest.EXAMPLE.model_copy(update={"files": tuple(files)})
    await store.put_manifest("small", 1, manifest.encode())
    return manifest, hashlib.sha256(manifest.encode()).hexdigest()


def assignment(digest, version=1):
    return ReplicaAssignment.EXAMPLE.model_copy(update={"model": "small", "version": version, "digest": digest})


def contents(folder):
    return {path: (folder / path).read_bytes() for path in CONTENTS}


async def test_the_manifest_is_the_one_that_was_deployed(store, version):
    manifest, digest = version
    assert await fetch_manifest(store, assignment(digest)) == manifest


async def test_another_manifest_than_the_deployed_one_is_refused(store, version):
    with pytest.raises(CorruptFile, match="small:1"):
        await fetch_manifest(store, assignment("00" * 32))


async def test_a_missing_manifest_is_named(store, version):
    with pytest.raises(NotFound, match="small:2"):
        await fetch_manifest(store, assignment(version[1], version=2))


async def test_a_manifest_that_cannot_be_read_is_refused(store):
    await store.put_manifest("small", 1, b"{}")
    with pytest.raises(CorruptFile):
        await fetch_manifest(store, assignment(hashlib.sha256(b"{}").hexdigest()))


def names(cache):
    return sorted(path.name for path in (cache / "versions").iterdir())


async def test_files_are_the_nodes_copies_of_blobs_under_their_paths(store, version, cache):
    async with version_folder(store, *version, cache) as folder:
        assert contents(folder) == CONTENTS
        blob = await store.fetch_blob(version[0].files[1].digest, cache / "blobs")
        assert (folder / "model.onnx.data").samefile(blob)


async def test_where_hard_links_are_impossible_files_are_linked_symbolically(store, version, cache, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(version_files.os, "link", refuse)
    async with version_folder(store, *version, cache) as folder:
        assert contents(folder) == CONTENTS
        assert (folder / "model.onnx").is_symlink()


async def test_a_folder_that_is_incomplete_is_built_again(store, version, cache):
    async with version_folder(store, *version, cache) as folder:
        (folder / "model.onnx").unlink()
    async with version_folder(store, *version, cache) as folder:
        assert contents(folder) == CONTENTS


async def test_replicas_that_start_together_share_one_folder(store, version, cache):
    async with AsyncExitStack() as stack:
        folders = await asyncio.gather(
            *(stack.enter_async_context(version_folder(store, *version, cache)) for _ in range(8))
        )
        assert len(set(folders)) == 1
        assert contents(folders[0]) == CONTENTS
        assert names(cache) == [".lock", version[1]]


async def test_a_folder_goes_when_no_process_uses_it_and_another_version_starts(store, version, cache):
    manifest, digest = version
    async with version_folder(store, manifest, digest, cache):
        async with version_folder(store, manifest, "11" * 32, cache):
            assert names(cache) == sorted([".lock", digest, "11" * 32])
        async with version_folder(store, manifest, "22" * 32, cache):
            assert names(cache) == sorted([".lock", digest, "22" * 32])


async def test_a_missing_blob_leaves_nothing_half_made(store, version, cache):
    await store.delete_blob(version[0].files[2].digest)
    with pytest.raises(NotFound):
        async with version_folder(store, *version, cache):
            pass
    assert names(cache) == [".lock"]
