"""An evaluation as a job: paused, killed and resumed, it gives the items of one that was left alone."""

import json
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.support.harness.embedded import Embedded, until
from tests.support.models.smollm2 import wheel_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ITEMS = 60


@pytest.fixture
def suite(demo: Embedded) -> Iterator[str]:
    source, prompt = wheel_data("PIQA/validation.jsonl"), "Question: {question}\nAnswer:"
    fields = ("--choices", "options", "--answer", "answer", "--text")
    done = demo.cli("suite", "import", str(source), "--name", "long-piqa", "--template", prompt, *fields)
    assert done.returncode == 0, done.stderr
    yield "long-piqa"
    with demo.http() as client:
        for report in ("interrupted", "alone"):
            client.delete(f"/llmos/v1/reports/{report}")
        client.delete("/llmos/v1/datasets/long-piqa")


def items(system: Embedded, report: str) -> list[dict[str, object]]:
    manifest = system.json("report", "show", report)["manifest"]
    with system.http() as client:
        return [
            json.loads(line) for line in client.get(f"/llmos/v1/blobs/{manifest['files'][0]['digest']}").iter_lines()
        ]


def test_an_interrupted_evaluation_asks_each_item_once(demo: Embedded, suite: str) -> None:
    done = demo.cli("evaluate", "smollm2", "-s", suite, "--n", str(ITEMS), "--name", "interrupted", "--detach")
    assert done.returncode == 0, done.stderr
    job = done.stdout.split()[0]

    def state() -> dict[str, object]:
        return demo.json("job", "show", job)

    def finished() -> int:
        path = demo.home.jobs / job / "checkpoints" / "finished.jsonl"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    until(lambda: finished() >= 5, 60, "some items are scored")
    assert demo.cli("job", "pause", job).returncode == 0
    paused = until(lambda: (now := state())["state"] == "paused" and now, 60, "paused")
    assert isinstance(paused, dict)
    before = finished()
    assert 5 <= before < ITEMS
    assert paused["checkpoint"]["step"] == before  # type: ignore[index]
    assert demo.cli("job", "resume", job).returncode == 0
    until(lambda: finished() >= before + 3, 60, "goes on")
    runners = [
        one for one in psutil.process_iter(["cmdline"]) if str(demo.home.jobs / job) in (one.info["cmdline"] or ())
    ]
    assert runners
    for runner in runners:
        os.kill(runner.pid, signal.SIGKILL)
    ended = until(lambda: (now := state())["state"] == "succeeded" and now, 120, "succeeded")
    assert isinstance(ended, dict)
    assert (ended["attempt"], ended["failures"]) == (3, 1)
    done = demo.cli("evaluate", "smollm2", "-s", suite, "--n", str(ITEMS), "--name", "alone", "--here")
    assert done.returncode == 0, done.stderr
    interrupted, alone = items(demo, "interrupted"), items(demo, "alone")
    assert len(interrupted) == ITEMS
    assert interrupted == alone


def test_a_job_for_a_version_that_is_no_longer_served_says_so(demo: Embedded, suite: str) -> None:
    with demo.http() as client:
        body = {
            "kind": "evaluate",
            "base": "smollm2",
            "datasets": [suite],
            "recipe": 'subject = "nobody"',
            "result": "report",
            "result_name": "interrupted",
            "resources": {"memory": 1 << 28, "threads": 0},
            "retries": 0,
        }
        job = client.post("/llmos/v1/jobs", json=body).json()["id"]
    until(lambda: demo.json("job", "show", job)["state"] == "failed", 60, "failed")
    assert "deployed now: smollm2 (smollm2:1)" in demo.json("job", "show", job)["message"]
