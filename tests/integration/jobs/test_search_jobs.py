"""A search as a job: the best trial's model and recipe become a version; paused, it goes on on another node."""

import tomllib

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")
pytest.importorskip("optuna", reason="the extra `train` (optuna) is not installed")

from shared.contracts.job import Desired, JobState
from shared.contracts.manifest import Kind
from tests.support.harness.wait import eventually
from tests.support.train.jobs import base_version, manifest_of, rows_version, weights
from tests.support.train.nano_runs import turns

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]
WAIT_S = 400.0
RECIPE = """\
steps = 4
batch = 4
max_len = 128

[validation]
every = 1

[compute]
precision = "float32"

[search]
trials = 4
reduction = 2
over = { lr = "1e-6..1e-2", rank = "2,4" }
"""


async def search(system, name="helper", text=RECIPE, **fields):
    given = {"base": "tiny", "datasets": ("rows",), "result": Kind.MODEL, "result_name": name, "threads": 1, **fields}
    return await system.create(kind="search", recipe=text, **given)


async def recipe_of(system, manifest):
    (digest,) = (file.digest for file in manifest.files if file.path == "recipe.toml")
    data = b"".join([chunk async for chunk in system.store.read_blob(digest)])
    return tomllib.loads(data.decode())


def trials(lines):
    """The numbers of the trials that these lines of a log begin."""
    return {int(line.split()[1]) for line in lines if " of 4: " in line and line.startswith("trial ")}


async def test_the_best_trial_becomes_a_version_also_when_the_search_was_paused(system):
    first = await system.start_agent("node-a")
    await base_version(system, system.folder)
    await rows_version(system, turns(), held_out=turns(8, seed=1))
    whole = await system.reaches((await search(system, "whole")).id, JobState.SUCCEEDED, timeout=WAIT_S)
    assert whole.results == ("model whole:1",)
    assert (whole.progress.step, whole.progress.steps) == (4, 4)
    log = await system.log(whole.id)
    assert any(line.startswith("trial 4 of 4: optimizer.learning_rate ") for line in log)
    table = next(at for at, line in enumerate(log) if line.split()[:3] == ["trial", "val_loss", "step"])
    best = log[table + 1].split()
    assert best[3] == "best"
    assert any(line.split()[:2] == ["trial", "1"] and "complete" in line for line in log)

    manifest = await manifest_of(system.store, "whole")
    recipe = await recipe_of(system, manifest)
    assert recipe["optimizer"]["learning_rate"] == pytest.approx(float(best[4]), rel=0.01)
    assert recipe["adapter"]["rank"] == int(best[5])
    assert "search" not in recipe
    assert manifest.metrics["val_loss"] == pytest.approx(float(best[1]), abs=1e-4)
    assert manifest.metrics["val_loss"] == pytest.approx(whole.progress.metrics["best_val_loss"])

    job = await search(system, "cut")

    async def in_the_second_trial():
        record = await system.job(job.id)
        assert not record.state.finished, record.message
        return record.progress.step >= 1 and "loss" in record.progress.metrics

    await eventually(in_the_second_trial, timeout=WAIT_S)
    await system.change(job.id, Desired.PAUSE)
    paused = await system.reaches(job.id, JobState.PAUSED, timeout=60)
    assert paused.checkpoint is not None
    said = len(await system.log(job.id))
    await first.aclose()
    await system.start_agent("node-b")
    await system.change(job.id, Desired.RUN)
    await system.reaches(job.id, JobState.SUCCEEDED, timeout=WAIT_S)
    log = await system.log(job.id)
    before, after = trials(log[:said]), trials(log[said:])
    assert before | after == {1, 2, 3, 4}
    assert before & after <= {max(before)}, "a trial that was whole was trained again"
    assert weights(await manifest_of(system.store, "cut")) == weights(manifest)


async def test_a_search_that_makes_no_sense_is_refused(system):
    await system.start_agent()
    await base_version(system, system.folder)
    await rows_version(system, turns())
    for text, says in (
        (RECIPE.replace("rank =", "ranq ="), "over ranq: a recipe has no such key"),
        (RECIPE, "held-out rows"),
        (RECIPE + "[job]\nprocesses = 2\n", "take one process each"),
    ):
        job = await search(system, text=text)
        assert says in (await system.reaches(job.id, JobState.FAILED, timeout=WAIT_S)).message
