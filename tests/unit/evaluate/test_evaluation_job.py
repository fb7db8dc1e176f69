import asyncio

import pytest

from devtools.jobs.evaluate import evaluate
from devtools.jobs.protocol import Messages
from devtools.jobs.settings import Settings
from devtools.jobs.tool import Run
from devtools.jobs.workspace import Workspace
from shared.contracts.job import Input, JobAssignment, JobSpec
from shared.contracts.manifest import Kind
from shared.contracts.resources import Resources
from shared.errors import InvalidInput, NotFound
from shared.storage.open import open_store


def run_of(folder, **spec):
    spec = {
        "kind": "evaluate",
        "base": Input(kind=Kind.MODEL, name="m", version=1, digest="ab" * 32),
        "datasets": (Input(kind=Kind.DATASET, name="s", version=1, digest="cd" * 32),),
        "recipe": 'subject = "m"',
        "result": Kind.REPORT,
        "result_name": "m",
        **spec,
    }
    assignment = JobAssignment(id="j", spec=JobSpec(**spec), attempt=1, resources=Resources(memory=1, threads=0))
    store = open_store((folder / "store").as_uri())
    return Run(assignment, Workspace(folder), store, folder / "cache", Messages(1), asyncio.Event())


async def test_a_node_that_does_not_know_the_gateway_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_STORE_URL", (tmp_path / "store").as_uri())
    with pytest.raises(InvalidInput, match=r"set LLMOS_JOB_GATEWAY_URL and LLMOS_JOB_API_KEY_FILE .* --here"):
        await evaluate(run_of(tmp_path), Settings())
    monkeypatch.setenv("LLMOS_JOB_GATEWAY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("LLMOS_JOB_API_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(NotFound, match=r"LLMOS_JOB_API_KEY_FILE: .*nothing can't be read"):
        await evaluate(run_of(tmp_path), Settings())


async def test_a_job_without_suites_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_STORE_URL", (tmp_path / "store").as_uri())
    with pytest.raises(InvalidInput, match="takes a version and suites, and makes a report"):
        await evaluate(run_of(tmp_path, datasets=()), Settings())
