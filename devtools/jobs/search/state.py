"""What a search has found in the store, so that any node can go on from it.

Trials, the newest checkpoint of the trial that runs and the result of the best one are uploaded. A node whose own
folder is further goes on with that.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from devtools.jobs.files import fetch_checkpoint, upload_folder
from devtools.jobs.tool import Run
from devtools.train.search.names import RESULT, STUDY, TRIALS
from shared.contracts.job import Checkpoint
from shared.errors import LlmosError

_STEPS, _STATE = "checkpoints", "state.json"


class SearchState:
    """The state of one search between its folder and the store.

    Args:
        run: The job.
        output: The folder of the search.
    """

    def __init__(self, run: Run, output: Path) -> None:
        self._run = run
        self._output = output
        self._changed = asyncio.Event()

    async def fetch(self) -> None:
        """Place what the job goes on from in the folder, unless the folder is further.

        Raises:
            NotFound: The store lost it.
        """
        checkpoint = self._run.assignment.checkpoint
        if checkpoint is None or validations(self._output) >= checkpoint.step:
            return
        await asyncio.to_thread(shutil.rmtree, self._output)
        await fetch_checkpoint(self._run.store, checkpoint, self._output, self._run.cache)

    def trial_ended(self) -> None:
        """Say that there is something new in the folder."""
        self._changed.set()

    async def follow(self) -> None:
        """Upload after each trial until cancelled. What can't be uploaded is in the log, and tried after the next."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.upload()
            except LlmosError as error:
                print(f"the search can't be stored: {error.message}", file=sys.stderr)  # noqa: T201  # the job's log

    async def upload(self) -> None:
        """Upload what the search goes on from.

        Raises:
            StorageFull: No room in the store; what it has stays.
            Unavailable: No store.
        """
        held = self._run.workspace.root / "upload"
        try:
            try:
                step = await asyncio.to_thread(_hold, self._output, held)
            except FileNotFoundError:  # a trial ended meanwhile, and its files are gone
                return
            if step is None:
                return
            files = await upload_folder(self._run.store, held)
        finally:
            await asyncio.to_thread(shutil.rmtree, held, ignore_errors=True)
        self._run.messages.send(checkpoint=Checkpoint(step=step, files=files))


def validations(output: Path) -> int:
    """How many validations the trials of a search have had: how far it is."""
    path = output / STUDY
    if not path.exists():
        return 0
    return sum(len(trial["losses"]) for trial in json.loads(path.read_text(encoding="utf-8"))["trials"])


def _hold(output: Path, held: Path) -> int | None:
    """Link what is needed into `held`, where the search does not remove it; how far the search is."""
    shutil.rmtree(held, ignore_errors=True)
    if not (output / STUDY).exists():
        return None
    held.mkdir(parents=True)
    shutil.copyfile(output / STUDY, held / STUDY)
    for path in _needed(output):
        target = held / path.relative_to(output)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return validations(held)


def _needed(output: Path) -> Iterator[Path]:
    yield from _files(output, "job.json", f"{RESULT}/*")
    for trial in (output / TRIALS).glob("*"):
        if (trial / RESULT).is_dir():
            yield from _files(trial, "run.json", f"{RESULT}/*")
            continue
        yield from _files(trial, "run.json", "base/*")
        steps = sorted(path for path in (trial / _STEPS).glob("step-*") if (path / _STATE).is_file())
        if steps:
            state = json.loads((steps[-1] / _STATE).read_text(encoding="utf-8"))["state"]
            for step in steps:
                if step == steps[-1] or step.name == f"step-{state['best_step'] or 0:08d}":
                    yield from _files(step, "*")


def _files(folder: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in folder.glob(pattern) if path.is_file())
