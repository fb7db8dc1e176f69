"""A job of kind `prepare` makes the version that the same recipe makes here."""

import asyncio
import json

from devtools.data.block_source import Input
from devtools.data.pipeline import prepare
from devtools.data.recipe import Recipe
from devtools.data.version import import_files
from shared.contracts.job import Desired, JobState
from shared.contracts.manifest import Kind
from shared.contracts.registry import DATASETS, CreateDatasetVersion, ResolveReference
from tests.support.harness.wait import eventually

RECIPE = """
[[step]]
name = "duplicates"

[[step]]
name = "near-duplicates"

[split]
validation = 0.2
"""


async def chunks(data: bytes):
    yield data


async def uploaded(system, folder, rows):
    """A version of texts."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    manifest = (await asyncio.to_thread(import_files, [path], folder / "version")).manifest
    for file in manifest.files:
        await system.store.put_blob(
            file.digest, chunks((folder / "version" / file.path).read_bytes()), size=file.size
        )
    version = await system.ask(DATASETS.create, CreateDatasetVersion(name="support", manifest=manifest))
    return Input(folder / "version", manifest, version.digest)


def job_of(system, recipe=RECIPE, **more):
    fields = {"datasets": ("support:1",), "recipe": recipe, "result": Kind.DATASET, "result_name": "clean", **more}
    return system.create(kind="prepare", **fields)


async def test_a_job_makes_the_version_that_is_made_here(system, tmp_path):
    await system.start_agent()
    given = await uploaded(system, tmp_path, [f"text {n % 40} of some words {n % 40}" for n in range(100)])
    job = await job_of(system)
    done = await system.reaches(job.id, JobState.SUCCEEDED)
    assert done.results == ("dataset clean:1",)
    assert done.progress.step == done.progress.steps == 300
    made = await system.ask(DATASETS.resolve, ResolveReference(reference="clean"))
    inputs, plan = Recipe.parse(RECIPE).plan([given])
    assert made.manifest == await asyncio.to_thread(prepare, inputs, plan, tmp_path / "here")
    assert made.manifest.parents == (given.digest,)


async def test_a_job_that_is_paused_begins_again(system, tmp_path):
    await system.start_agent()
    words = [f"word{n}" for n in range(200)]
    rows = [" ".join(words[(n * 7 + k * (n % 11 + 1)) % 200] for k in range(120)) for n in range(3_000)]
    await uploaded(system, tmp_path, rows)
    job = await job_of(system)

    async def works():
        return (await system.job(job.id)).progress.step > 0

    await eventually(works, timeout=60)
    await system.change(job.id, Desired.PAUSE)
    paused = await system.reaches(job.id, JobState.PAUSED)
    assert paused.message == "begins again"
    await system.change(job.id, Desired.RUN)
    assert (await system.reaches(job.id, JobState.SUCCEEDED, timeout=90)).results == ("dataset clean:1",)


async def test_a_mistake_in_the_recipe_is_the_reason_of_the_failure(system, tmp_path):
    await system.start_agent()
    await uploaded(system, tmp_path, ["a text"])
    job = await job_of(system, recipe='[[step]]\nname = "near-duplicate"', retries=0)
    failed = await system.reaches(job.id, JobState.FAILED)
    assert "did you mean 'near-duplicates'" in failed.message
