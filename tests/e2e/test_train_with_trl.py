"""Every command and the program of docs/howto/train-with-trl.md, with the real trl.

trl wants an environment of its own, which the page describes: `LLMOS_TEST_TRL` names its Python.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness.compose import ROOT
from tests.support.harness.documented import DOCS, commands
from tests.support.harness.embedded import Embedded, until

TRL = os.environ.get("LLMOS_TEST_TRL", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not TRL, reason="LLMOS_TEST_TRL names no Python: trl has an environment of its own"),
]

PAGE = "howto/train-with-trl.md"
UNSEEN = ROOT / "devtools" / "train" / "lesson" / "unseen.jsonl"
NEEDED = 18
"""Of 24 sentences in other words than those that were learnt; the base gives none of them its code."""
WAIT_S = 2400.0


def write_program(folder: Path) -> Path:
    """The program of the page."""
    found = re.search(r"<!-- train\.py -->\n```python\n(.*?)```", (DOCS / PAGE).read_text("utf-8"), re.DOTALL)
    assert found is not None
    path = folder / "train.py"
    path.write_text(found[1], encoding="utf-8")
    return path


@pytest.fixture
def system(demo: Embedded) -> Iterator[Embedded]:
    """The demo; what the page makes is removed at the end."""
    try:
        yield demo
    finally:
        demo.cli("undeploy", "ticket-codes")
        for job in demo.json("jobs"):
            if "ticket-codes" in json.dumps(job["spec"]):
                demo.cli("job", "cancel", job["id"])
                until(lambda: demo.cli("job", "delete", job["id"]).returncode == 0, 60, "deleted")  # noqa: B023
        until(lambda: demo.cli("model", "delete", "ticket-codes", "--yes").returncode in {0, 1}, 60, "deleted")
        with demo.http() as client:
            client.delete("/llmos/v1/datasets/tickets")


def right_codes(system: Embedded, model: str) -> int:
    """How many of the unseen sentences get exactly their code."""
    rows = [json.loads(line) for line in UNSEEN.read_text(encoding="utf-8").splitlines()]
    answers = [system.ask(model=model, messages=row["messages"]) for row in rows]
    return sum(answer == row["answer"]["content"] for answer, row in zip(answers, rows, strict=True))


def until_state(system: Embedded, job: str, state: str) -> None:
    until(lambda: system.json("job", "show", job)["state"] == state, WAIT_S, f"{job} is {state}")


def test_an_adapter_of_trl_is_paused_goes_on_and_becomes_a_version_that_answers(
    system: Embedded, tmp_path: Path
) -> None:
    places = {"/opt/trl/bin/python": TRL, "/opt/trl/train.py": str(write_program(tmp_path))}
    imported, trained, shown, deployed, asked = (
        [places.get(word, word) for word in command] for command in commands(PAGE)
    )
    done = system.cli(*imported)
    assert (done.returncode, "32 turns" in done.stdout) == (0, True), done.stdout + done.stderr
    at = trained.index("--")
    done = system.cli(*trained[:at], "--detach", *trained[at:])
    assert done.returncode == 0, done.stderr
    job = done.stdout.split()[0]
    checkpoints = system.home.jobs / job / "checkpoints"
    until(lambda: list(checkpoints.glob("checkpoint-*/trainer_state.json")), WAIT_S, f"{job} saves")
    assert system.cli("job", "pause", job).returncode == 0
    until_state(system, job, "paused")
    assert system.json("job", "show", job)["checkpoint"]["files"]
    assert system.cli("job", "resume", job).returncode == 0
    done = system.cli("job", "logs", job, "-f", timeout=WAIT_S)
    assert "32 rows" in done.stdout
    first, second = re.findall(r"begins from (\S+)", done.stdout)
    assert (Path(first).name, Path(second).name) == ("model-smollm2-1-hf", "checkpoint-4")
    record = system.json("job", "show", job)
    assert record["state"] == "succeeded", done.stdout
    assert (record["attempt"], record["failures"], record["results"]) == (2, 0, ["model ticket-codes:1"])

    facts = system.cli(*shown).stdout
    for fact in ("base     smollm2:1", "data     tickets:1", f"job      {job}"):
        assert fact in facts, facts
    done = system.cli(*deployed)
    assert done.returncode == 0, done.stderr
    assert system.cli(*asked).stdout.strip() == "BILL-1"
    assert right_codes(system, "smollm2") == 0
    assert right_codes(system, "ticket-codes") >= NEEDED
