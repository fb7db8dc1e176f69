import pytest

from services.registry.manifests import digest_of, encode_manifest
from services.registry.rebuild import rebuild
from services.registry.records import Records
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.job import JOBS_BUCKET, Checkpoint, Desired, JobState
from shared.contracts.registry import (
    COLLECT_GARBAGE,
    DATASETS,
    MODELS,
    REPORTS,
    CollectGarbage,
    CreateDatasetVersion,
    CreateModelVersion,
    CreateReportVersion,
    DeleteVersion,
    ModelVersion,
    ResolveReference,
    SetAlias,
)
from shared.contracts.report import ReportManifest
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment
from shared.errors import Conflict, CorruptFile, InvalidInput, NotFound
from tests.support.factories.blobs import sha256
from tests.support.factories.jobs import job_of
from tests.support.factories.manifests import manifest_of, uploaded, uploaded_dataset
from tests.support.harness.events import events_of

pytestmark = pytest.mark.usefixtures("registry")

TIMEOUT = 10.0


async def ask(client, endpoint, request):
    return await call(client, endpoint, request, timeout=TIMEOUT)


async def create(client, store, name: str, content: bytes, *aliases: str) -> ModelVersion:
    manifest = await uploaded(store, {"model.onnx": content, "tokenizer.json": b"{}"})
    return await ask(client, MODELS.create, CreateModelVersion(name=name, manifest=manifest, aliases=aliases))


async def test_a_version_from_creation_to_resolution(client, store):
    first = await create(client, store, "smollm2", b"one", "prod")
    second = await create(client, store, "smollm2", b"two")
    assert (first.reference, first.aliases) == ("smollm2:1", ("prod",))
    assert (second.reference, second.aliases) == ("smollm2:2", ())
    assert first.digest == digest_of(encode_manifest(first.manifest)) != second.digest
    for reference, version in (("smollm2", second), ("smollm2:1", first), ("smollm2@prod", first)):
        assert await ask(client, MODELS.resolve, ResolveReference(reference=reference)) == version
    [record] = (await ask(client, MODELS.list, Empty())).models
    assert record.name == "smollm2"
    assert [entry.version for entry in record.versions] == [1, 2]
    assert record.versions[0].size == first.manifest.size == len(b"one{}")
    assert record.aliases == {"prod": 1}


async def test_the_same_manifest_again_is_the_same_version_and_may_add_aliases(client, store):
    first = await create(client, store, "smollm2", b"one", "a")
    again = await create(client, store, "smollm2", b"one", "b")
    assert again.reference == first.reference
    assert again.aliases == ("a", "b")
    assert await store.manifests() == [("smollm2", 1)]


async def test_a_version_without_its_blobs_is_refused_naming_path_and_digest(client, store):
    manifest = manifest_of({"model.onnx": b"never uploaded"})
    with pytest.raises(InvalidInput, match=rf"'model.onnx': blob {sha256(b'never uploaded')} is not in the store"):
        await ask(client, MODELS.create, CreateModelVersion(name="smollm2", manifest=manifest))
    assert (await ask(client, MODELS.list, Empty())).models == ()
    assert await store.manifests() == []


async def test_a_version_whose_blob_has_another_size_is_refused(client, store):
    manifest = await uploaded(store, {"model.onnx": b"1234"})
    wrong = manifest.model_copy(update={"files": (manifest.files[0].model_copy(update={"size": 5}),)})
    with pytest.raises(InvalidInput, match="has 4 bytes, the manifest says 5"):
        await ask(client, MODELS.create, CreateModelVersion(name="smollm2", manifest=wrong))


async def test_a_version_without_files_is_refused(client):
    with pytest.raises(InvalidInput, match="names no file"):
        await ask(client, MODELS.create, CreateModelVersion(name="smollm2", manifest=manifest_of({})))


@pytest.mark.parametrize("default", [{"temperature": "abc"}, {"top_p": 1.5}, {"max_new_tokens": -1}])
async def test_a_version_with_a_default_that_no_replica_can_use_is_refused(client, store, default):
    manifest = (await uploaded(store, {"model.onnx": b"one"})).model_copy(update={"defaults": default})
    with pytest.raises(InvalidInput, match=rf"the default max_tokens|the default {next(iter(default))}") as caught:
        await ask(client, MODELS.create, CreateModelVersion(name="smollm2", manifest=manifest))
    assert caught.value.param == "manifest.defaults"
    assert (await ask(client, MODELS.list, Empty())).models == ()


async def test_a_malformed_request_names_the_field(client):
    with pytest.raises(InvalidInput, match="manifest"):
        await client.request(MODELS.create.subject, b'{"name": "smollm2"}', timeout=TIMEOUT)
    with pytest.raises(InvalidInput):
        await client.request(MODELS.create.subject, b"not json", timeout=TIMEOUT)


async def test_aliases_move_and_go(client, store):
    await create(client, store, "smollm2", b"one", "prod")
    await create(client, store, "smollm2", b"two")
    moved = await ask(client, MODELS.set_alias, SetAlias(name="smollm2", alias="prod", version=2))
    assert moved.aliases == {"prod": 2}
    assert (await ask(client, MODELS.resolve, ResolveReference(reference="smollm2@prod"))).version == 2
    with pytest.raises(NotFound, match="no version smollm2:9: newest first, there are 2, 1"):
        await ask(client, MODELS.set_alias, SetAlias(name="smollm2", alias="prod", version=9))
    gone = await ask(client, MODELS.set_alias, SetAlias(name="smollm2", alias="prod", version=None))
    assert gone.aliases == {}
    with pytest.raises(NotFound, match="no alias smollm2@prod"):
        await ask(client, MODELS.set_alias, SetAlias(name="smollm2", alias="prod", version=None))


async def test_what_does_not_exist_is_answered_with_what_does(client, store):
    await create(client, store, "smollm2", b"one")
    for endpoint, request in (
        (MODELS.resolve, ResolveReference(reference="smollm3@prod")),
        (MODELS.set_alias, SetAlias(name="smollm3", alias="prod", version=1)),
        (MODELS.delete, DeleteVersion(reference="smollm3")),
    ):
        with pytest.raises(NotFound, match="no model 'smollm3': there are smollm2"):
            await ask(client, endpoint, request)


async def test_what_is_no_reference_is_refused(client):
    for reference in ("", "../etc", "a b", "a:b:c", "A", "a\n", "x" * 5000):
        for endpoint, request in (
            (MODELS.resolve, ResolveReference(reference=reference)),
            (MODELS.set_alias, SetAlias(name=reference, alias="prod", version=1)),
            (MODELS.delete, DeleteVersion(reference=reference)),
        ):
            with pytest.raises(InvalidInput, match="is not a model reference"):
                await ask(client, endpoint, request)


async def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(client, store):
    await create(client, store, "smollm2", b"one")
    await create(client, store, "smollm2", b"two", "prod")
    await ask(client, MODELS.delete, DeleteVersion(reference="smollm2:2"))
    [record] = (await ask(client, MODELS.list, Empty())).models
    assert ([entry.version for entry in record.versions], record.aliases) == ([1], {})
    assert await store.manifests() == [("smollm2", 1)]
    assert (await create(client, store, "smollm2", b"two")).version == 3


async def test_a_deleted_model_is_gone_and_its_numbers_are_not_used_again(client, store):
    await create(client, store, "smollm2", b"one")
    await ask(client, MODELS.delete, DeleteVersion(reference="smollm2"))
    assert (await ask(client, MODELS.list, Empty())).models == ()
    with pytest.raises(NotFound, match="no model 'smollm2': there are none"):
        await ask(client, MODELS.resolve, ResolveReference(reference="smollm2"))
    with pytest.raises(NotFound):
        await ask(client, MODELS.delete, DeleteVersion(reference="smollm2"))
    assert (await create(client, store, "smollm2", b"one")).version == 2


async def test_an_alias_cannot_be_deleted_as_a_version(client, store):
    await create(client, store, "smollm2", b"one", "prod")
    with pytest.raises(InvalidInput, match="smollm2@prod is an alias"):
        await ask(client, MODELS.delete, DeleteVersion(reference="smollm2@prod"))


async def test_what_a_deployment_uses_is_not_deleted(client, store):
    version = await create(client, store, "smollm2", b"one")
    await create(client, store, "smollm2", b"two")
    assert Deployment.EXAMPLE is not None
    deployment = Deployment.EXAMPLE.model_copy(update={"name": "chat", "digest": version.digest})
    await client.kv(DEPLOYMENTS_BUCKET).put("chat", deployment.encode())
    for reference in ("smollm2:1", "smollm2"):
        with pytest.raises(Conflict, match="in use: undeploy chat first"):
            await ask(client, MODELS.delete, DeleteVersion(reference=reference))
    await ask(client, MODELS.delete, DeleteVersion(reference="smollm2:2"))
    await client.kv(DEPLOYMENTS_BUCKET).delete("chat")
    await ask(client, MODELS.delete, DeleteVersion(reference="smollm2:1"))


async def test_a_manifest_that_was_changed_or_removed_in_the_store_is_noticed(client, store, tmp_path):
    await create(client, store, "smollm2", b"one")
    path = tmp_path / "store" / "manifests" / "smollm2" / "1.json"
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(CorruptFile, match="manifest of smollm2:1 is gone"):
        await ask(client, MODELS.resolve, ResolveReference(reference="smollm2"))
    path.write_bytes(data.replace(b"test.gguf", b"evil.gguf"))
    with pytest.raises(CorruptFile, match="was changed"):
        await ask(client, MODELS.resolve, ResolveReference(reference="smollm2"))


async def test_every_change_is_published(client, store):
    await create(client, store, "smollm2", b"one", "prod")
    await create(client, store, "smollm2", b"one", "prod")  # changes nothing
    await ask(client, MODELS.set_alias, SetAlias(name="smollm2", alias="test", version=1))
    await ask(client, MODELS.set_alias, SetAlias(name="smollm2", alias="test", version=None))
    await ask(client, MODELS.delete, DeleteVersion(reference="smollm2:1"))
    published = await events_of(client)
    assert [(event.kind, event.name) for event in published] == [
        ("version.reserved", "smollm2:1"),
        ("version.created", "smollm2:1"),
        ("alias.set", "smollm2@test"),
        ("alias.removed", "smollm2@test"),
        ("version.deleted", "smollm2:1"),
    ]
    assert {event.actor for event in published} == {"registry-test"}
    states = [(event.before, event.after) for event in published]
    assert [after for _, after in states[:-1]] == [before for before, _ in states[1:]], "each goes on from the last"
    assert states[0][0] is None


async def test_garbage_is_named_first_and_removed_when_asked(client, store):
    await create(client, store, "smollm2", b"one")
    deleted = await create(client, store, "smollm2", b"two")
    await uploaded(store, {"model.onnx": b"never a version"})
    await ask(client, MODELS.delete, DeleteVersion(reference=deleted.reference))
    lost = sorted([sha256(b"two"), sha256(b"never a version")])
    assert (await ask(client, COLLECT_GARBAGE, CollectGarbage())).blobs == ()  # all of it is young
    named = await ask(client, COLLECT_GARBAGE, CollectGarbage(grace=0))
    assert (list(named.blobs), named.size, named.dry_run) == (lost, len(b"two" + b"never a version"), True)
    assert set(lost) < set(await store.blobs())
    removed = await ask(client, COLLECT_GARBAGE, CollectGarbage(grace=0, dry_run=False))
    assert list(removed.blobs) == lost
    assert set(await store.blobs()) == {sha256(b"one"), sha256(b"{}")}
    assert (await ask(client, MODELS.resolve, ResolveReference(reference="smollm2"))).version == 1


async def test_garbage_is_looked_for_among_the_named_blobs_only(client, store):
    await create(client, store, "smollm2", b"one")
    await uploaded(store, {"model.onnx": b"of a killed import"})
    await uploaded(store, {"model.onnx": b"of a running import"})
    named = (sha256(b"one"), sha256(b"of a killed import"), sha256(b"not there"))
    removed = await ask(client, COLLECT_GARBAGE, CollectGarbage(grace=0, dry_run=False, blobs=named))
    assert removed.blobs == (sha256(b"of a killed import"),)
    assert {sha256(b"one"), sha256(b"of a running import")} <= set(await store.blobs())


async def test_nothing_is_collected_while_a_manifest_cannot_be_read(client, store, tmp_path):
    await create(client, store, "smollm2", b"one")
    (tmp_path / "store" / "manifests" / "smollm2" / "1.json").unlink()
    with pytest.raises(CorruptFile, match="gone"):
        await ask(client, COLLECT_GARBAGE, CollectGarbage(grace=0, dry_run=False))
    assert sha256(b"one") in await store.blobs()


async def test_a_dataset_is_numbered_named_and_deleted_like_a_model(client, store):
    await create(client, store, "support", b"a model of that name")
    manifest = await uploaded_dataset(store, b'{"text": "one"}\n{"text": "two"}\n')
    request = CreateDatasetVersion(name="support", manifest=manifest, aliases=("clean",))
    made = await ask(client, DATASETS.create, request)
    assert (made.reference, made.manifest, made.aliases) == ("support:1", manifest, ("clean",))
    assert await ask(client, DATASETS.create, request) == made
    assert await ask(client, DATASETS.resolve, ResolveReference(reference="support@clean")) == made
    assert [record.name for record in (await ask(client, DATASETS.list, Empty())).datasets] == ["support"]
    with pytest.raises(NotFound, match="no dataset 'suport': there are support"):
        await ask(client, DATASETS.resolve, ResolveReference(reference="suport"))
    with pytest.raises(InvalidInput, match="is not a dataset reference"):
        await ask(client, DATASETS.resolve, ResolveReference(reference="Support"))
    await ask(client, DATASETS.delete, DeleteVersion(reference="support"))
    assert (await ask(client, DATASETS.list, Empty())).datasets == ()
    assert (await ask(client, MODELS.resolve, ResolveReference(reference="support"))).version == 1


async def test_a_report_is_a_version_too(client, store):
    example = ReportManifest.EXAMPLE
    assert example is not None
    rows = b'{"id": "a", "exact_match": 1.0}\n'
    files = (await uploaded_dataset(store, rows)).files
    manifest = example.model_copy(update={"files": files})
    made = await ask(client, REPORTS.create, CreateReportVersion(name="helper", manifest=manifest))
    assert (await ask(client, REPORTS.resolve, ResolveReference(reference="helper:1"))) == made


async def test_the_rows_of_a_dataset_are_not_garbage(client, store):
    rows = b'{"text": "kept"}\n'
    manifest = await uploaded_dataset(store, rows)
    await ask(client, DATASETS.create, CreateDatasetVersion(name="support", manifest=manifest))
    report = await ask(client, COLLECT_GARBAGE, CollectGarbage(dry_run=False, grace=0))
    assert report.blobs == ()
    assert await store.blob_size(sha256(rows)) == len(rows)
    await ask(client, DATASETS.delete, DeleteVersion(reference="support:1"))
    report = await ask(client, COLLECT_GARBAGE, CollectGarbage(dry_run=False, grace=0))
    assert report.blobs == (sha256(rows),)


async def test_a_lost_catalogue_of_datasets_is_rebuilt(client, store):
    manifest = await uploaded_dataset(store, b'{"text": "kept"}\n')
    made = await ask(client, DATASETS.create, CreateDatasetVersion(name="support", manifest=manifest))
    await client.kv(DATASETS.bucket).delete("support")
    assert await rebuild(Records(client, DATASETS.bucket), store, DATASETS) == ["support:1"]
    restored = await ask(client, DATASETS.resolve, ResolveReference(reference="support"))
    assert (restored.digest, restored.manifest) == (made.digest, manifest)


async def test_the_checkpoint_of_a_job_is_not_garbage(client, store):
    saved = b"optimizer and weights"
    (file,) = (await uploaded_dataset(store, saved)).files
    job = job_of(state=JobState.PAUSED, desired=Desired.PAUSE, checkpoint=Checkpoint(step=3, files=(file,)))
    await client.kv(JOBS_BUCKET).put(job.id, job.encode())
    report = await ask(client, COLLECT_GARBAGE, CollectGarbage(dry_run=False, grace=0))
    assert report.blobs == ()
    await client.kv(JOBS_BUCKET).delete(job.id)
    report = await ask(client, COLLECT_GARBAGE, CollectGarbage(dry_run=False, grace=0))
    assert report.blobs == (file.digest,)
