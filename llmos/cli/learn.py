"""`llmos learn`: the first lesson, in which SmolLM2 learns what it can't know: a firm's codes for tickets."""

import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import typer

from llmos.cli import demo
from llmos.cli.lineage_view import add_lineage
from llmos.cli.options import HomeOption, KeyOption, UrlOption
from llmos.cli.output import note, print_tree, progress_bars, say, status
from llmos.cli.trace_view import tree
from llmos.client import Client, wait_ready, why_not_ready
from llmos.config import Target
from llmos.dataset_versions import import_rows
from llmos.training import Training
from shared.contracts.job import Job, JobState
from shared.contracts.registry import DatasetVersion
from shared.contracts.scheduler import Deploy
from shared.errors import LlmosError, Unavailable
from shared.service.python import python_module

NAME = "ticket-codes"
"""Of the dataset, of the model and of its deployment."""
NEEDED = 22
"""Of the 24 unseen sentences."""
_READY_S = 120.0
_AT_ONCE = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: llmos learn · make learn")(learn)


def learn(home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None) -> None:
    """The first lesson: import rows, train the demo model on them, deploy it, and follow an answer back to the rows.

    It takes about two minutes on two cores. Where no LLMOS runs, it starts one in a temporary folder.
    """
    began = time.monotonic()
    target = Target.resolve(home, url, api_key)
    with _system(target) as system, system.client() as client:
        right = _lesson(client)
    say(f"{time.monotonic() - began:.0f} s")
    if right < NEEDED:
        raise LlmosError(f"{right} answers of 24 are right, expected at least {NEEDED}")


@contextmanager
def _system(target: Target) -> Iterator[Target]:
    """The running system, or one in a temporary home."""
    if target.url is not None or target.home.system() is not None:
        yield target
        return
    folder = Path(tempfile.mkdtemp(prefix="llmos-learn-"))
    try:
        note(f"no LLMOS runs from {target.home.root}; starting one in {folder}")
        _llmos("up", "--detach", "--no-demo", "--home", str(folder))
        try:
            yield Target.resolve(folder, None, None)
        finally:
            _llmos("down", "--home", str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _llmos(*arguments: str) -> None:
    done = subprocess.run(python_module("llmos", *arguments), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise Unavailable(done.stderr.strip().removeprefix("error: ") or f"llmos {arguments[0]} failed")


def _lesson(client: Client) -> int:
    """How many answers are right in the end."""
    base = demo.import_once(client)
    demo.deploy_once(client, base)
    rows = _rows(client)
    say(f"1. {rows.manifest.row_count} sentences with codes become {rows.reference}")
    before, _ = _ask(client, demo.NAME)
    say(f"2. before: {demo.NAME} gives the right code for {before} of 24 other sentences")
    job = _train(client, base.reference, rows.reference)
    made = job.results[0].removeprefix("model ")
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else 0.0
    say(f"3. {job.id} made {made} in {took:.0f} s")
    client.deploy(Deploy(reference=made, name=NAME))
    with status(f"starting {made}") as show:
        for newest in wait_ready(client, NAME, _READY_S):
            show(f"starting {made}: {why_not_ready(newest)}")
    right, answers = _ask(client, NAME)
    for sentence, answer, _ in answers[::6]:
        say(f"   > {sentence}", style="cyan")
        say(f"   {answer}")
    say(f"4. after: {NAME} gives the right code for {right} of 24", style="bold green" if right >= NEEDED else "red")
    say("5. the last answer, back to the rows:")
    document = demo.whole_trace(client, answers[-1][2])
    top = tree(document, answers[-1][2])
    add_lineage(client, document, top)
    print_tree(top)
    return right


def _rows(client: Client) -> DatasetVersion:
    with progress_bars() as progress:
        version, _ = import_rows(
            client,
            [_file("tickets.jsonl")],
            NAME,
            license="Apache-2.0",
            statement="Sentences that were made up for the first lesson of LLMOS.",
            progress=progress,
        )
    return version


def _train(client: Client, base: str, rows: str) -> Job:
    recipe = tomllib.loads(_file("recipe.toml").read_text(encoding="utf-8"))
    training = Training(recipe, name=NAME, base=base, datasets=(rows,))
    job = client.jobs.create(training.request(client, memory=None, threads=0, priority=0, retries=1))
    with status(f"{job.id} {job.state} {job.message}") as show:
        for event in client.jobs.events(job.id):
            loss = event.progress.metrics.get("loss") if event.progress else None
            show(f"{job.id} {event.message}" + (f", loss {loss:.3f}" if loss is not None else ""))
    job = client.jobs.show(job.id)
    if job.state is not JobState.SUCCEEDED:
        raise LlmosError(f"{job.id} has {job.state}: {job.message}")
    return job


def _ask(client: Client, deployment: str) -> tuple[int, list[tuple[str, str, str]]]:
    """How many codes are right; sentence, answer and trace id of each."""
    from devtools.data.rows import Turn, read_rows  # noqa: PLC0415  # other commands start without it

    turns = [row for row in read_rows(_file("unseen.jsonl")) if isinstance(row, Turn)]

    def ask(turn: Turn) -> tuple[str, str, str]:
        messages = [{"role": message.role, "content": message.content} for message in turn.messages]
        deltas = list(client.chat(deployment, messages, temperature=0, max_tokens=8))
        return turn.messages[-1].content, "".join(delta.text for delta in deltas).strip(), deltas[-1].trace_id

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = list(threads.map(ask, turns))
    right = sum(answer == turn.answer.content for (_, answer, _), turn in zip(answers, turns, strict=True))
    return right, answers


def _file(name: str) -> Path:
    return Path(str(files("devtools.train.lesson") / name))
