"""A job from the request to its end: real processes, a real bus, a real store."""

import os
import signal
import sys
import textwrap

import psutil
import pytest

from shared.contracts.job import Desired, JobState
from shared.contracts.registry import DATASETS, CreateDatasetVersion
from tests.support.factories.manifests import uploaded_dataset
from tests.support.harness.processes import is_alive
from tests.support.harness.wait import eventually


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(code))


COUNTER = python(
    """
    # Counts to 3 in a file of its checkpoints, a second each; asked to stop it ends with what it has.
    import os, pathlib, signal, sys, threading
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    place = pathlib.Path(os.environ["LLMOS_CHECKPOINTS"]) / "count"
    count = int(place.read_text()) if place.exists() else 0
    print("begins at", count, flush=True)
    while count < 3 and not stop.wait(0.7):
        count += 1
        place.write_text(str(count))
    sys.exit(0 if count == 3 else 1)
    """
)
SLEEPER = python("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])")


async def test_a_command_gets_its_data_prints_into_the_log_and_succeeds(system):
    await system.start_agent()
    manifest = await uploaded_dataset(system.store, b'{"text": "one"}\n{"text": "two"}\n')
    await system.ask(DATASETS.create, CreateDatasetVersion(name="support", manifest=manifest))
    job = await system.create(
        *python(
            """
            import os, pathlib, sys
            rows = sorted(pathlib.Path(sys.argv[1]).rglob("*.jsonl"))
            print("rows", sum(len(path.read_text().splitlines()) for path in rows), flush=True)
            print("secrets", [name for name in os.environ if "NATS" in name or "STORE" in name], file=sys.stderr)
            """
        ),
        "{data}",
        datasets=("support:1",),
    )
    done = await system.reaches(job.id, JobState.SUCCEEDED)
    assert done.spec.datasets[0].reference == "support:1"
    log = await eventually(lambda: system.log(job.id))
    assert {"rows 2", "secrets []"} <= set(log)
    assert (system.folder / "logs" / f"job-{job.id}.log").read_text().splitlines() != []
    await eventually(lambda: not list((system.folder / "jobs-node-a").iterdir()))


async def test_a_paused_job_goes_on_where_it_was_on_another_node(system):
    first = await system.start_agent("node-a")
    job = await system.create(*COUNTER)
    counted = system.folder / "jobs-node-a" / job.id / "checkpoints" / "count"
    await eventually(lambda: counted.exists() and counted.read_text() == "1")
    await system.change(job.id, Desired.PAUSE)
    paused = await system.reaches(job.id, JobState.PAUSED)
    assert paused.checkpoint is not None
    await first.aclose()
    await system.start_agent("node-b")
    await system.change(job.id, Desired.RUN)
    done = await system.reaches(job.id, JobState.SUCCEEDED)
    assert (done.attempt, done.failures) == (2, 0)
    log = await system.log(job.id)
    assert log[0] == "begins at 0"
    assert log[1] in {"begins at 1", "begins at 2"}


async def test_cancelling_ends_all_that_the_job_started_within_seconds(system):
    await system.start_agent()
    job = await system.create(*SLEEPER)
    await system.reaches(job.id, JobState.RUNNING)

    def sleeping():
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "import time; time.sleep(600)" in child.cmdline()]

    sleepers = await eventually(sleeping)
    await system.change(job.id, Desired.CANCEL)
    await system.reaches(job.id, JobState.CANCELLED, timeout=10)
    await eventually(lambda: not any(map(is_alive, sleepers)))


async def test_a_job_that_fails_is_tried_again_and_says_why(system):
    await system.start_agent()
    job = await system.create(*python("raise SystemExit('there is no such column: ticket')"), retries=1)
    with pytest.raises(RuntimeError, match="failed"):
        await system.reaches(job.id, JobState.SUCCEEDED)
    failed = await system.job(job.id)
    assert (failed.attempt, failed.failures) == (2, 2)
    assert "ended with code 1" in failed.message
    assert "there is no such column: ticket" in await system.log(job.id)


async def test_a_killed_process_is_a_failure_and_the_next_attempt_goes_on(system):
    await system.start_agent()
    job = await system.create(*COUNTER)
    counted = system.folder / "jobs-node-a" / job.id / "checkpoints" / "count"
    await eventually(lambda: counted.exists() and counted.read_text() == "1")
    runners = [one for one in psutil.Process().children() if any(job.id in word for word in one.cmdline())]
    os.kill(runners[0].pid, signal.SIGKILL)
    done = await system.reaches(job.id, JobState.SUCCEEDED)
    assert (done.attempt, done.failures) == (2, 1)


async def test_a_program_that_is_not_there_is_named(system):
    await system.start_agent()
    job = await system.create("no-such-program", retries=0)
    with pytest.raises(RuntimeError, match="no-such-program"):
        await system.reaches(job.id, JobState.SUCCEEDED)
