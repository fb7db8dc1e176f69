"""`/v1/fine_tuning/jobs` through the `openai` package: the whole way but for the arithmetic of training."""

import time

import openai
import pytest

from services.gateway.openai.fine_tuning.resources import training_resources
from shared.contracts.job import SHOW_JOB, JobName, JobState
from shared.contracts.manifest import EncoderSpec, Manifest
from shared.contracts.registry import (
    COLLECT_GARBAGE,
    DATASETS,
    MODELS,
    CollectGarbage,
    CreateDatasetVersion,
    CreateModelVersion,
)
from shared.contracts.scheduler import (
    DEPLOY,
    SHOW_DEPLOYMENT,
    UNDEPLOY,
    Deploy,
    DeploymentName,
)
from tests.integration.fine_tuning.conftest import BASE, CHATS, PAIRS
from tests.support.factories.blobs import sha256
from tests.support.factories.manifests import uploaded, uploaded_dataset
from tests.support.harness.wait import eventually


async def events(stand, job_id):
    return [event async for event in stand.client.fine_tuning.jobs.list_events(job_id)][::-1]


async def test_rows_become_a_model_that_is_served_under_its_name(stand):
    await stand.start_node()
    training, validation = await stand.upload(), await stand.upload(CHATS[: len(CHATS) // 12 * 3], "held-out.jsonl")
    job = await stand.client.fine_tuning.jobs.create(
        model=BASE,
        training_file=training.id,
        validation_file=validation.id,
        suffix="helper",
        seed=7,
        metadata={"team": "support"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "learning_rate_multiplier": 2.0, "batch_size": "auto"}},
        },
    )
    assert (job.object, job.model, job.seed, job.status) == ("fine_tuning.job", BASE, 7, "running")
    assert (job.training_file, job.validation_file) == (training.id, validation.id)
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.error) == (None, None, None, None)
    assert job.hyperparameters.n_epochs == 3
    assert job.method.supervised.hyperparameters.batch_size == "auto"
    assert job.metadata == {"team": "support"}
    done = await stand.reaches(job.id, "succeeded")
    assert (done.fine_tuned_model, done.trained_tokens, done.result_files) == ("helper", 40, [])
    assert done.finished_at >= done.created_at

    deployment = await stand.system.ask(SHOW_DEPLOYMENT, DeploymentName(name="helper"))
    assert (deployment.deployment.model, deployment.deployment.version) == ("helper", 1)
    assert deployment.ready == 1, "a client may ask the model at once"
    rows = await stand.rows("helper")
    assert rows.manifest.splits == {"train": 12, "validation": 3}
    assert [source.name for source in rows.manifest.sources] == ["chats.jsonl", "held-out.jsonl"]
    lineage = (await stand.manifest("helper")).lineage
    assert (lineage.job, lineage.datasets) == (job.id, (rows.digest,))

    record = await stand.system.job(job.id)
    assert record.results == ("dataset helper:1", "model helper:1")
    assert record.spec.recipe.splitlines() == [
        'method = "sft"', 'weights = "adapter"', "seed = 7", "max_len = 1024", "epochs = 3",
        "", "[optimizer]", "learning_rate = 0.002",
    ]  # fmt: skip


async def test_events_and_checkpoints_tell_the_story_in_pages(stand):
    await stand.start_node()
    job = await stand.train(suffix="helper")
    await stand.reaches(job.id, "succeeded")
    story = await events(stand, job.id)
    messages = [event.message for event in story]
    assert messages[:2] == ["The job is queued", "The job is starting on node-a"]
    assert "Step 2/4: training loss=0.5, validation loss=1" in messages
    assert messages[-1] == "The job has succeeded: deployed as helper"
    assert {"Made dataset helper:1", "Made model helper:1", "Saved a checkpoint at step 2"} <= set(messages)
    metrics = next(event for event in story if event.type == "metrics")
    assert metrics.data["train_loss"] == 1.0
    assert metrics.data["total_steps"] == 4
    assert {event.level for event in story} == {"info"}
    paged = await stand.client.fine_tuning.jobs.list_events(job.id, limit=3)
    assert paged.has_more
    ids = [event.id async for event in stand.client.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert ids == [event.id for event in story][::-1]
    (checkpoint,) = (await stand.client.fine_tuning.jobs.checkpoints.list(job.id)).data
    assert (checkpoint.step_number, checkpoint.fine_tuning_job_id) == (2, job.id)
    assert (checkpoint.metrics.step, checkpoint.metrics.train_loss, checkpoint.metrics.full_valid_loss) == (2, 0.5, 1)
    for wrong in ("after=x", "after=ftevent-y", "limit=0", "limit=101", "order=asc"):
        answer = await stand.http.get(f"/v1/fine_tuning/jobs/{job.id}/events?{wrong}")
        assert answer.status_code == 400, wrong


async def test_a_job_is_paused_resumed_and_cancelled(stand, monkeypatch):
    monkeypatch.setenv("FAKE_TRAINER_DO", "wait")
    await stand.start_node()
    job = await stand.train()

    async def estimate():
        return (await stand.client.fine_tuning.jobs.retrieve(job.id)).estimated_finish

    assert abs(await eventually(estimate) - (time.time() + 60)) < 30
    await stand.client.fine_tuning.jobs.pause(job.id)
    await stand.reaches(job.id, "paused")
    resumed = await stand.client.fine_tuning.jobs.resume(job.id)
    assert resumed.status in {"queued", "running"}
    cancelled = await stand.client.fine_tuning.jobs.cancel(job.id)
    assert cancelled.id == job.id
    over = await stand.reaches(job.id, "cancelled")
    assert (over.fine_tuned_model, over.finished_at is not None) == (None, True)
    with pytest.raises(openai.ConflictError, match="can't be paused"):
        await stand.client.fine_tuning.jobs.pause(job.id)


async def test_a_job_that_fails_says_why_and_in_which_file(stand, monkeypatch):
    await stand.start_node()
    rows = await stand.upload(CHATS * 20 + b'{"messages": []}\n', "my chats.jsonl")
    job = await stand.train(training_file=rows.id)
    failed = await stand.reaches(job.id, "failed")
    assert (failed.error.code, failed.error.param) == ("invalid_file", "training_file")
    assert failed.error.message.startswith("my chats.jsonl:241: messages")
    assert failed.fine_tuned_model is None
    assert [event.level for event in await events(stand, job.id)][-1] == "error"
    assert (await stand.system.job(job.id)).failures == 1, "it is not tried again"
    monkeypatch.setenv("FAKE_TRAINER_DO", "fail")
    job = await stand.train()
    failed = await stand.reaches(job.id, "failed")
    assert (failed.error.code, failed.error.param) == ("job_failed", None)
    assert failed.error.message == "the loss is not a number"


async def test_a_replica_that_fails_is_told_and_does_not_hide_the_model(stand, monkeypatch):
    monkeypatch.setenv("FAKE_REPLICA_DO", "crash")
    await stand.start_node()
    job = await stand.train(suffix="helper")
    done = await stand.reaches(job.id, "succeeded")
    assert done.fine_tuned_model == "helper"
    last = (await events(stand, job.id))[-1]
    assert last.level == "warn"
    assert last.message.startswith("The job has succeeded: its deployment helper waits: ")


async def test_a_name_that_is_taken_gets_an_end_of_its_own(stand):
    await stand.start_node()
    first = await stand.train(suffix="helper")
    second = await stand.train(suffix="helper")
    assert (await stand.reaches(first.id, "succeeded")).fine_tuned_model == "helper"
    end = second.id.removeprefix("ftjob-")
    assert (await stand.reaches(second.id, "succeeded")).fine_tuned_model == f"helper-{end}"
    unnamed = await stand.train()
    end = unnamed.id.removeprefix("ftjob-")
    assert (await stand.reaches(unnamed.id, "succeeded")).fine_tuned_model == f"ft-{BASE}-{end}"
    manifest = await uploaded_dataset(stand.system.store, b'{"text": "one"}\n')
    await stand.system.ask(DATASETS.create, CreateDatasetVersion(name="support", manifest=manifest))
    for taken in (BASE, "support"):
        job = await stand.train(suffix=taken)
        record = await stand.system.job(job.id)
        assert record.spec.deploy == record.spec.result_name == f"{taken}-{job.id.removeprefix('ftjob-')}"


async def test_a_model_is_named_by_its_deployment_or_by_a_reference(stand):
    await stand.system.ask(DEPLOY, Deploy(reference=f"{BASE}:1", name="prod"))
    file = (await stand.upload()).id

    async def listed():
        return "prod" in [model.id async for model in stand.client.models.list()]

    await eventually(listed)
    jobs = stand.client.fine_tuning.jobs
    for name in ("prod", BASE, f"{BASE}:1"):
        job = await jobs.create(model=name, training_file=file)
        record = await stand.system.job(job.id)
        assert (job.model, record.spec.base.reference) == (name, f"{BASE}:1")
        assert record.resources == training_resources(await stand.manifest(BASE), len(CHATS) // 24)
    encoder = Manifest.EXAMPLE.model_copy(
        update={"task": "embed", "format": "onnx-encoder", "decoder": None, "encoder": EncoderSpec.EXAMPLE}
    )
    files = (await uploaded(stand.system.store, {"model.onnx": b"encoder"})).files
    encoder = encoder.model_copy(update={"files": files})
    await stand.system.ask(MODELS.create, CreateModelVersion(name="minilm", manifest=encoder))
    with pytest.raises(openai.BadRequestError, match="a model for task 'embed'; only decoders") as wrong:
        await jobs.create(model="minilm", training_file=file)
    assert wrong.value.param == "model"
    for name in ("gpt-4o-mini", "gpt:x", f"{BASE}:9"):
        with pytest.raises(
            openai.NotFoundError, match="deployments: prod; models in the registry: minilm, smollm2"
        ) as no:
            await jobs.create(model=name, training_file=file)
        assert (no.value.code, no.value.param) == ("model_not_found", "model")


WRONG = [
    ({"training_file": "file-1"}, 404, "training_file"),
    ({"validation_file": "file-1"}, 404, "validation_file"),
    ({"training_file": "notes"}, 400, "training_file"),
    ({"training_file": "pairs"}, 400, "training_file"),
    ({"method": {"type": "dpo"}}, 400, "training_file"),
    ({"validation_file": "pairs"}, 400, "validation_file"),
    ({"validation_file": "chats"}, 400, "validation_file"),
    ({"suffix": "My Model"}, 400, "suffix"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": "7"}, 400, "seed"),
    ({"metadata": {str(number): "" for number in range(17)}}, 400, "metadata"),
    ({"metadata": {"a": "b" * 513}}, 400, "metadata.a"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, 400, "integrations"),
    ({"method": {"type": "reinforcement"}}, 400, "method.type"),
    ({"method": {"type": "supervised", "dpo": {}}}, 400, "method.dpo"),
    ({"method": {"type": "supervised"}, "hyperparameters": {"n_epochs": 1}}, 400, "hyperparameters"),
    ({"hyperparameters": {"n_epochs": 0}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": "some"}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": 1.5}}, 400, "hyperparameters.batch_size"),
    ({"hyperparameters": {"batch_size": True}}, 400, "hyperparameters.batch_size"),
    ({"hyperparameters": {"learning_rate_multiplier": 0}}, 400, "hyperparameters.learning_rate_multiplier"),
    ({"hyperparameters": {"beta": 0.1}}, 400, "hyperparameters.beta"),
    ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": -1}}}}, 400, "method.dpo.hyperparameters.beta"),
    ({"n_epochs": 1}, 400, "n_epochs"),
    ({"model": ""}, 400, "model"),
]


async def test_a_request_that_is_wrong_names_its_field_and_makes_no_job(stand):
    files = {
        "chats": (await stand.upload()).id,
        "pairs": (await stand.upload(PAIRS, "pairs.jsonl")).id,
        "notes": (await stand.upload(b"notes", "notes.txt", "user_data")).id,
    }
    for fields, status, param in WRONG:
        body = {"model": BASE, "training_file": "chats", **fields}
        for name in ("training_file", "validation_file"):
            if name in body:
                body[name] = files.get(body[name], body[name])
        answer = await stand.http.post("/v1/fine_tuning/jobs", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), (fields, answer.text)
    assert [job async for job in stand.client.fine_tuning.jobs.list()] == []


async def test_preferences_and_the_older_form_become_recipes(stand):
    pairs = await stand.upload(PAIRS, "pairs.jsonl")
    job = await stand.client.fine_tuning.jobs.create(
        model=BASE,
        training_file=pairs.id,
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "batch_size": 4}}},
    )
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert job.seed >= 0
    recipe = (await stand.system.job(job.id)).spec.recipe
    assert recipe.startswith('method = "dpo"\n')
    assert {"batch = 4", "[dpo]", "beta = 0.2", f"seed = {job.seed}"} <= set(recipe.splitlines())
    older = await stand.train(hyperparameters={"n_epochs": 2})
    assert (older.hyperparameters.n_epochs, older.method.type) == (2, "supervised")
    assert "epochs = 2" in (await stand.system.job(older.id)).spec.recipe.splitlines()


async def test_jobs_are_listed_in_pages_and_by_metadata(stand):
    jobs = [await stand.train(metadata={"team": team}) for team in ("a", "b", "a")]
    other = await stand.system.create("true", memory=1 << 50)
    newest = await stand.client.fine_tuning.jobs.list(limit=2)
    assert [job.id for job in newest.data] == [jobs[2].id, jobs[1].id]
    assert newest.has_more
    everything = [job.id async for job in stand.client.fine_tuning.jobs.list(limit=2)]
    assert everything == [job.id for job in jobs][::-1]
    of_a = [job.id async for job in stand.client.fine_tuning.jobs.list(metadata={"team": "a"})]
    assert of_a == [jobs[2].id, jobs[0].id]
    with pytest.raises(openai.NotFoundError, match="is no fine-tuning job"):
        await stand.client.fine_tuning.jobs.retrieve(other.id)
    with pytest.raises(openai.NotFoundError, match="there is no job 'ftjob-0'"):
        await stand.client.fine_tuning.jobs.cancel("ftjob-0")


async def test_a_job_keeps_the_bytes_of_a_deleted_file_until_it_is_over(stand):
    file = await stand.upload()
    job = await stand.train(training_file=file.id)
    await stand.client.files.delete(file.id)
    collect = CollectGarbage(dry_run=False, grace=0)
    assert sha256(CHATS) not in (await stand.system.ask(COLLECT_GARBAGE, collect)).blobs
    await stand.client.fine_tuning.jobs.cancel(job.id)
    assert (await stand.system.ask(COLLECT_GARBAGE, collect)).blobs == (sha256(CHATS),)


async def test_a_deployment_of_a_finished_job_is_its_own_business(stand):
    await stand.start_node()
    job = await stand.train(suffix="helper")
    await stand.reaches(job.id, "succeeded")
    await stand.system.ask(UNDEPLOY, DeploymentName(name="helper"))
    assert (await stand.client.fine_tuning.jobs.retrieve(job.id)).status == "succeeded"
    record = await stand.system.ask(SHOW_JOB, JobName(id=job.id))
    assert record.state is JobState.SUCCEEDED
