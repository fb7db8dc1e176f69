"""Training as a job: from versions to a version, killed and paused on the way, on the same node and on another."""

import hashlib

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from shared.contracts.job import JobState
from shared.contracts.manifest import Kind
from tests.support.train.jobs import base_version, manifest_of, recipe, rows_version, weights
from tests.support.train.nano_runs import turns

pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]

WAIT_S = 120.0


async def start_training(system, text, name="helper", **fields):
    given = {"base": "tiny", "datasets": ("rows",), "result": Kind.MODEL, "result_name": name, **fields}
    return await system.create(kind="train", recipe=text, threads=1, **given)


async def test_rows_become_a_version_with_its_lineage(system):
    await system.start_agent()
    await base_version(system, system.folder)
    await rows_version(system, turns())
    text = recipe()
    job = await start_training(system, text)
    done = await system.reaches(job.id, JobState.SUCCEEDED, timeout=WAIT_S)
    assert done.results == ("model helper:1",)
    assert (done.progress.step, done.progress.steps) == (6, 6)
    assert {"loss", "tokens_per_second", "memory"} <= done.progress.metrics.keys()
    manifest, base = await manifest_of(system.store, "helper"), await manifest_of(system.store, "tiny")
    lineage = manifest.lineage
    assert (lineage.base, lineage.datasets) == (done.spec.base.digest, (done.spec.datasets[0].digest,))
    assert (lineage.job, lineage.quantization) == (job.id, "F32")
    assert lineage.recipe == hashlib.sha256(text.encode()).hexdigest()
    assert lineage.code.startswith("llmos ")
    assert "torch " in lineage.code
    assert await system.store.blob_size(lineage.recipe) == len(text)
    files = {file.path: file.digest for file in manifest.files}
    assert files["recipe.toml"] == lineage.recipe
    assert files["tokenizer.json"] == {file.path: file.digest for file in base.files}["tokenizer.json"]
    assert weights(manifest) != weights(base)
