"""A job of kind `prepare`: rows of datasets through steps to a version of a dataset."""

import asyncio
import shutil
from collections.abc import Callable

from devtools.data.block_source import Input
from devtools.data.executors import Here
from devtools.data.length import Tokenizer
from devtools.data.pipeline import prepare, work_folder
from devtools.data.recipe import Recipe
from devtools.jobs.files import fetch_version, upload_folder
from devtools.jobs.protocol import Messages
from devtools.jobs.tool import Run, Stopped
from shared.contracts.dataset import DatasetManifest
from shared.contracts.job import NewVersion, Progress
from shared.contracts.manifest import Kind, Manifest
from shared.errors import InvalidInput


class Interrupted(Exception):
    """The job was asked to stop."""


async def prepare_version(run: Run) -> None:
    """Prepare the rows and make the version.

    Raises:
        Stopped: SIGTERM came; the job begins again later, for it saves nothing meanwhile.
        InvalidInput: The recipe is wrong.
    """
    spec, workspace, store = run.assignment.spec, run.workspace, run.store
    if not spec.datasets or spec.result is not Kind.DATASET or spec.result_name is None:
        raise InvalidInput("a job of kind prepare takes datasets and makes a dataset", param="datasets")
    recipe = Recipe.parse(spec.recipe)
    given = []
    for dataset in spec.datasets:
        folder, manifest = await fetch_version(store, dataset, DatasetManifest, workspace.inputs, run.cache)
        given.append(Input(folder, manifest, dataset.digest))
    tokenizer = None
    if spec.base is not None:
        base, _ = await fetch_version(store, spec.base, Manifest, workspace.inputs, run.cache)
        tokenizer = Tokenizer.from_file(base / "tokenizer.json")
    inputs, plan = recipe.plan(given, tokenizer=tokenizer)
    progress = _reporter(run.messages, run.stop, plan.stages)
    folder = workspace.output / "version"
    for left in (folder, work_folder(folder)):  # of an attempt that was killed
        await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
    try:
        manifest = await asyncio.to_thread(
            prepare, inputs, plan, folder, executor=Here(recipe.processes), progress=progress
        )
    except Interrupted:
        raise Stopped from None
    await upload_folder(store, folder)
    run.messages.send(result=NewVersion(name=spec.result_name, kind=Kind.DATASET, manifest=manifest))


def _reporter(messages: Messages, stop: asyncio.Event, stages: int) -> Callable[[str, float], None]:
    """Sends progress; raises Interrupted, between two blocks, when the job should stop."""
    titles: list[str] = []
    reported = -1

    def progress(title: str, done: float) -> None:
        nonlocal reported
        if stop.is_set():
            raise Interrupted
        if title not in titles:
            titles.append(title)
        step = int(100 * (len(titles) - 1 + done))
        if step > reported:
            reported = step
            messages.send(progress=Progress(step=step, steps=100 * stages))

    return progress
