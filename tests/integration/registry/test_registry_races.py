import asyncio
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from services.registry.catalogue import check_integrity
from services.registry.creation import create_version
from services.registry.files import read_manifest
from services.registry.rebuild import rebuild
from services.registry.records import Records
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.manifest import Kind, Manifest
from shared.contracts.registry import (
    COLLECT_GARBAGE,
    MODELS,
    CollectGarbage,
    CreateModelVersion,
    DeleteVersion,
    ResolveReference,
    SetAlias,
)
from shared.errors import InvalidInput
from shared.storage.directory import DirectoryStore
from shared.storage.open import open_store
from tests.support.factories.blobs import sha256
from tests.support.factories.manifests import uploaded

TIMEOUT = 20.0
NOW = datetime(2026, 11, 24, tzinfo=UTC)


async def ask(bus, endpoint, request):
    return await call(bus, endpoint, request, timeout=TIMEOUT)


async def create(bus, store, content: bytes, *aliases: str):
    manifest = await uploaded(store, {"model.onnx": content})
    return await ask(bus, MODELS.create, CreateModelVersion(name="smollm2", manifest=manifest, aliases=aliases))


@pytest.mark.parametrize("kind", ["directory", "s3"])
async def test_racing_creators_each_get_a_number_and_their_own_manifest(kind, client, store, start_registry, request):
    """S3 has no conditional write here: two writers of one manifest would overwrite each other unseen."""
    if kind == "s3":
        server = request.getfixturevalue("s3_server")
        url = server.url("registry-races")
        store = open_store(url, access_key=server.access_key, secret_key=server.secret_key)
    registries = [await start_registry(store) for _ in range(2)]
    manifests = [await uploaded(store, {"model.onnx": b"%d" % number}) for number in range(8)]
    infos = await asyncio.gather(
        *(
            registries[number % 2]
            .catalogues[Kind.MODEL]
            .create_version(CreateModelVersion(name="smollm2", manifest=manifest, aliases=("prod",)))
            for number, manifest in enumerate(manifests)
        )
    )
    assert len({info.version for info in infos}) == len(manifests)
    record = await Records(client, MODELS.bucket).get("smollm2")
    assert record is not None
    check_integrity(record)
    by_number = {entry.version: entry for entry in record.versions}
    for info, manifest in zip(infos, manifests, strict=True):
        assert (
            await read_manifest(store, "smollm2", by_number[info.version], kind=Kind.MODEL, contract=Manifest)
            == manifest
        )


async def test_racing_creators_of_the_same_manifest_make_one_version(client, store, start_registry):
    registries = [await start_registry() for _ in range(2)]
    manifest = await uploaded(store, {"model.onnx": b"one"})
    infos = await asyncio.gather(
        *(
            registries[number % 2]
            .catalogues[Kind.MODEL]
            .create_version(CreateModelVersion(name="smollm2", manifest=manifest, aliases=(f"a{number}",)))
            for number in range(6)
        )
    )
    assert len({info.version for info in infos}) == 1
    record = await Records(client, MODELS.bucket).get("smollm2")
    assert record is not None
    check_integrity(record)
    assert len(record.versions) == 1
    assert sorted(record.aliases) == [f"a{number}" for number in range(6)]
    assert await store.manifests() == [("smollm2", infos[0].version)]


async def test_creating_aliasing_and_deleting_at_once_keeps_the_record_whole(client, store, start_registry):
    registries = [await start_registry() for _ in range(2)]
    await create(client, store, b"base", "prod")

    async def story(number: int) -> None:
        registry = registries[number % 2].catalogues[Kind.MODEL]
        manifest = await uploaded(store, {"model.onnx": b"story %d" % number})
        info = await registry.create_version(CreateModelVersion(name="smollm2", manifest=manifest))
        await registry.set_alias(SetAlias(name="smollm2", alias="prod", version=info.version))
        await registry.delete_version(DeleteVersion(reference=info.reference))

    await asyncio.gather(*(story(number) for number in range(6)))
    record = await Records(client, MODELS.bucket).get("smollm2")
    assert record is not None
    check_integrity(record)
    assert [entry.version for entry in record.versions] == [1]
    assert await store.manifests() == [("smollm2", 1)]


async def test_a_registry_killed_between_manifest_and_record_leaves_nothing_to_see(
    nats, client, store, start_registry, tmp_path
):
    manifest = await uploaded(store, {"model.onnx": b"one"})
    victim = f"""
        import asyncio, os, signal
        from pathlib import Path
        from services.registry.service import RegistryService
        from shared.bus.connect import connect
        from shared.contracts.manifest import Kind
        from shared.contracts.registry import CreateModelVersion
        from shared.storage.directory import DirectoryStore

        class Deadly(DirectoryStore):
            async def put_manifest(self, name, version, data, kind):
                await super().put_manifest(name, version, data, kind)
                os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            bus = await connect({nats.url!r}, name="victim")
            registry = RegistryService(bus, Deadly(Path({str(tmp_path / "store")!r})), actor="victim")
            request = CreateModelVersion.decode({CreateModelVersion(name="smollm2", manifest=manifest).encode()!r})
            await registry.catalogues[Kind.MODEL].create_version(request)

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(victim))
    assert await process.wait() == -9
    assert await store.manifests() == [("smollm2", 1)]

    await start_registry()
    assert (await ask(client, MODELS.list, Empty())).models == ()
    again = await create(client, store, b"one")
    assert (await ask(client, MODELS.resolve, ResolveReference(reference="smollm2"))) == again
    report = await ask(client, COLLECT_GARBAGE, CollectGarbage(grace=0, dry_run=False))
    assert (report.manifests, report.blobs) == (("smollm2:1",), ())
    assert await store.manifests() == [("smollm2", again.version)]


async def test_a_blob_collected_while_its_version_is_made_is_an_error_not_a_broken_version(client, tmp_path):
    class Collected(DirectoryStore):
        """Somebody's garbage collection removes the blob just after it was checked."""

        async def put_manifest(self, name: str, version: int, data: bytes, kind: Kind = Kind.MODEL) -> None:
            await super().put_manifest(name, version, data, kind)
            await self.delete_blob(sha256(b"old"))

    store = Collected(tmp_path / "collected")
    manifest = await uploaded(store, {"model.onnx": b"old"})
    records = Records(client, MODELS.bucket)
    request = CreateModelVersion(name="smollm2", manifest=manifest)
    with pytest.raises(InvalidInput, match=r"is not in the store; upload it first \(it was removed as garbage"):
        await create_version(records, store, request, manifest, kind=Kind.MODEL, now=lambda: NOW)
    record = await records.get("smollm2")
    assert record is not None
    assert record.versions == ()
    assert await store.manifests() == []


async def test_a_lost_catalogue_is_rebuilt_from_the_store(client, store, start_registry):
    await start_registry()
    first = await create(client, store, b"one", "prod")
    await create(client, store, b"two")
    await create(client, store, b"three")
    await store.delete_blob(sha256(b"two"))
    await store.put_manifest("broken", 4, b"not json")
    bucket = client.kv(MODELS.bucket)
    for entry in await bucket.entries():
        await bucket.delete(entry.key)

    assert await rebuild(Records(client, MODELS.bucket), store, MODELS) == ["smollm2:1", "smollm2:3"]
    restored = await ask(client, MODELS.resolve, ResolveReference(reference="smollm2:1"))
    assert (restored.digest, restored.manifest) == (first.digest, first.manifest)
    assert (await create(client, store, b"four")).version == 4
    records = await Records(client, MODELS.bucket).all()
    assert records["broken"].next_version == 5
    assert records["broken"].versions == ()
    for record in records.values():
        check_integrity(record)


async def test_a_catalogue_that_is_there_is_not_rebuilt(client, store, start_registry):
    await start_registry()
    await create(client, store, b"one", "prod")
    await store.put_manifest("other", 1, b"{}")
    assert await rebuild(Records(client, MODELS.bucket), store, MODELS) == []
    assert list(await Records(client, MODELS.bucket).all()) == ["smollm2"]


async def test_numbers_of_manifests_that_no_record_knows_are_skipped(client, store, start_registry):
    await store.put_manifest("smollm2", 1, b"{}")
    await store.put_manifest("smollm2", 2, b"{}")
    await start_registry()
    assert (await create(client, store, b"one")).version == 3
