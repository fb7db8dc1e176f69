"""The newest checkpoint of a training in the store, so that any node can go on from it.

What the next step depends on is uploaded: the newest checkpoint, the best one, and the files that say which run it
is.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from devtools.jobs.files import fetch_checkpoint, upload_folder
from devtools.jobs.tool import Run
from shared.contracts.job import Checkpoint
from shared.contracts.manifest import ManifestFile
from shared.errors import CorruptFile, LlmosError, NotFound
from shared.storage.digest import file_digest

UPLOAD_EVERY_S = 2.0
"""At most one checkpoint is uploaded in this time. A node reports the newest one within it."""
RUN_FILE, SHAPE_FILE, NEW_BASE = "run.json", "job.json", "base"
"""In the folder of a run: of the trainer, of this tool, and of the trainer with weights = 'scratch'."""
_STEPS, _STATE, _TENSORS = "checkpoints", "state.json", "tensors.safetensors"
_UPLOADS = 2
"""The record of the job may still name the one before the newest."""


class StoredState:
    """Checkpoints of one run between its folder and the store.

    Args:
        run: The job.
        output: The folder of the run.
    """

    def __init__(self, run: Run, output: Path) -> None:
        self._run = run
        self._output = output
        self._changed = asyncio.Event()
        self._uploads: list[tuple[ManifestFile, ...]] = []
        self._step = -1
        """Of the checkpoint that was uploaded last."""

    async def fetch(self) -> None:
        """Place the checkpoint that the job goes on from in the folder, unless the folder is further."""
        checkpoint = self._run.assignment.checkpoint
        if checkpoint is None:
            return
        if self._run.assignment.rank > 0:  # the first node sends the tensors
            small = tuple(file for file in checkpoint.files if not file.path.startswith(f"{_STEPS}/"))
            checkpoint = checkpoint.model_copy(update={"files": small})
        named = {file.path: file for file in checkpoint.files}
        for name in (RUN_FILE, SHAPE_FILE):
            path = self._output / name
            if path.exists() and name in named and file_digest(path) != named[name].digest:
                # An attempt without a checkpoint in the store began here, on another kind of machine.
                await asyncio.to_thread(shutil.rmtree, self._output)
        try:
            await fetch_checkpoint(self._run.store, checkpoint, self._output, self._run.cache)
        except (NotFound, CorruptFile) as error:
            _log(f"checkpoint of step {checkpoint.step} is lost ({error.message}); training goes on without it")

    def checkpointed(self) -> None:
        """Say that there is a new checkpoint in the folder."""
        self._changed.set()

    async def follow(self) -> None:
        """Upload new checkpoints until cancelled. One that can't be uploaded is in the log; the next is tried."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = time.monotonic()
            with suppress(LlmosError):
                await self.upload()
            await asyncio.sleep(max(0.0, began + UPLOAD_EVERY_S - time.monotonic()))

    async def upload(self) -> None:
        """Upload the newest checkpoint, unless the store has it.

        Raises:
            StorageFull: No room in the store; what it has stays.
            Unavailable: No store.
        """
        held = self._run.workspace.root / "upload"
        try:
            step = await asyncio.to_thread(_hold, self._output, held)
            if step is None or step == self._step:
                return
            files = await upload_folder(self._run.store, held)
        except LlmosError as error:
            _log(f"the checkpoint can't be stored: {error.message}")
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, held, ignore_errors=True)
        self._step = step
        self._run.messages.send(checkpoint=Checkpoint(step=step, files=files))
        await self._remove_older(files)

    async def _remove_older(self, newest: tuple[ManifestFile, ...]) -> None:
        """Remove the tensors of checkpoints that nothing goes on from; small files are left to `llmos model gc`."""
        self._uploads.append(newest)
        while len(self._uploads) > _UPLOADS:
            old = self._uploads.pop(0)
            needed = {file.digest for files in self._uploads for file in files}
            for file in old:
                if file.path.endswith(f"/{_TENSORS}") and file.digest not in needed:
                    with suppress(LlmosError):
                        await self._run.store.delete_blob(file.digest)


def _hold(output: Path, held: Path) -> int | None:
    """Link what the next step depends on into `held`, where the trainer does not remove it; the newest step."""
    shutil.rmtree(held, ignore_errors=True)
    steps = sorted(path for path in (output / _STEPS).glob("step-*") if (path / _STATE).is_file())
    if not steps:
        return None
    newest = steps[-1]
    state = json.loads((newest / _STATE).read_text(encoding="utf-8"))["state"]
    best = [path for path in steps if _number(path) == state["best_step"]]
    singles = [output / name for name in (RUN_FILE, SHAPE_FILE)]
    for folder in {*best, newest, output / NEW_BASE}:
        singles += folder.glob("*")
    for path in singles:
        if path.is_file():
            target = held / path.relative_to(output)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return _number(newest)


def _number(step: Path) -> int:
    return int(step.name.removeprefix("step-"))


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # the job's log
