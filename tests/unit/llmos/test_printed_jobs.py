"""What `llmos jobs` and `llmos job show` print of a job."""

from datetime import timedelta

import pytest
from typer.testing import CliRunner

from llmos.cli import app, output
from llmos.jobs import Jobs
from shared.contracts.job import Checkpoint, Input, Job, JobSpec, JobState, Progress
from shared.contracts.manifest import Kind
from tests.support.factories.jobs import CREATED, job_of

BASE = Input(kind=Kind.MODEL, name="smollm2", version=1, digest="ab" * 32)
ROWS = Input(kind=Kind.DATASET, name="support", version=2, digest="cd" * 32)
TRAINING = JobSpec(kind="train", base=BASE, datasets=(ROWS,), result=Kind.MODEL, result_name="helper", node_count=2)


@pytest.fixture
def printed(monkeypatch):
    """What a command prints where a system has these jobs."""

    def run(*words: str, jobs: list[Job]) -> str:
        monkeypatch.setattr(Jobs, "list", lambda _: jobs)
        monkeypatch.setattr(Jobs, "show", lambda _, job_id: next(job for job in jobs if job.id == job_id))
        monkeypatch.setattr(output.console, "_width", 200)
        done = CliRunner().invoke(app, [*words, "--url", "http://127.0.0.1:1", "--api-key", "k"])
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def facts(text: str) -> dict[str, str]:
    """The lines of `llmos job show` below the first, by name."""
    return {name: fact.strip() for name, fact in (line.split(maxsplit=1) for line in text.splitlines()[1:])}


def running(**fields) -> Job:
    given = {
        "spec": TRAINING,
        "state": JobState.RUNNING,
        "nodes": ("node-a", "node-b"),
        "attempt": 2,
        "failures": 1,
        "progress": Progress(step=20, steps=40, eta_s=31.5, metrics={"loss": 0.42}),
        "checkpoint": Checkpoint(step=16, files=()),
    }
    return job_of("train-x7k2qa", **(given | fields))


def test_the_list_says_what_where_and_how_far(printed):
    waits = job_of("run-b", message="waits: no node has 5.0 GiB free")
    lines = printed("jobs", jobs=[running(), waits]).splitlines()
    assert lines[0].split() == ["JOB", "WHAT", "STATE", "PROGRESS", "NODE", "MESSAGE"]
    assert lines[1].split("  ")[0] == "train-x7k2qa"
    for part in ("train smollm2:1 support:2 -> helper", "running", "20/40, 32 s left", "node-a, node-b"):
        assert part in lines[1]
    assert "run true" in lines[2]
    assert "queued" in lines[2]
    assert lines[2].endswith("waits: no node has 5.0 GiB free")


def test_an_empty_list_says_what_to_try(printed):
    assert printed("jobs", jobs=[]).strip() == "No jobs yet. Try: llmos job run --help"


def test_a_job_on_two_nodes_shows_both_and_how_many_it_needs(printed):
    shown = facts(printed("job", "show", "train-x7k2qa", jobs=[running()]))
    assert shown["state"] == "running on node-a, node-b"
    assert shown["nodes"] == "2"
    assert shown["base"].split() == ["smollm2:1", "abababababab"]
    assert shown["data"].split() == ["support:2", "cdcdcdcdcdcd"]
    assert shown["progress"] == "20/40, 32 s left"
    assert shown["metrics"] == "loss 0.42"
    assert shown["checkpoint"] == "step 16"
    assert shown["attempts"] == "2, 1 failed, 0 preempted"


def test_a_job_on_one_node_says_nothing_of_their_number(printed):
    job = running(spec=TRAINING.model_copy(update={"node_count": 1}), nodes=("node-a",))
    assert "nodes" not in facts(printed("job", "show", job.id, jobs=[job]))


def test_a_finished_job_has_a_duration_and_results_and_no_time_left(printed):
    job = running(
        state=JobState.SUCCEEDED,
        nodes=(),
        results=("model helper:1",),
        started_at=CREATED + timedelta(seconds=5),
        finished_at=CREATED + timedelta(seconds=98),
    )
    shown = facts(printed("job", "show", job.id, jobs=[job]))
    assert (shown["state"], shown["took"], shown["results"]) == ("succeeded", "93 s", "model helper:1")
    assert shown["progress"] == "20/40"


def test_json_is_the_whole_record(printed):
    assert Job.decode(printed("job", "show", "train-x7k2qa", "--json", jobs=[running()]).encode()) == running()
