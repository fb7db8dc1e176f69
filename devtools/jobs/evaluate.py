"""A job of kind `evaluate`: suites are put to what deployments serve, through the gateway; the result is a report."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from devtools.jobs.files import fetch_checkpoint, fetch_version, upload_folder
from devtools.jobs.settings import NO_GATEWAY, Settings
from devtools.jobs.tool import Run, Stopped
from shared.contracts.dataset import DatasetManifest
from shared.contracts.job import Checkpoint, NewVersion, Progress
from shared.contracts.manifest import Kind
from shared.errors import Conflict, InvalidInput, NotFound

CHECKPOINT_EVERY_S = 20.0
_PROGRESS_EVERY_S = 0.5
_FINISHED_FILE = "finished.jsonl"


async def evaluate_served(run: Run) -> None:
    """The tool: `evaluate` with this node's settings."""
    await evaluate(run, Settings())  # pyright: ignore[reportCallIssue]  # from the environment


async def evaluate(run: Run, settings: Settings) -> None:
    """Score all items that an earlier attempt has not scored, and make a version of a report.

    Raises:
        Stopped: SIGTERM came; the scores so far are in the store.
        InvalidInput: The recipe or a suite is wrong, or this node does not know the gateway.
        NotFound: What should be evaluated is not deployed.
        Conflict: A deployment serves another version than the job was made for.
    """
    from devtools.evaluate.evaluation import measure, prepare  # noqa: PLC0415  # other jobs start without it
    from devtools.evaluate.finished import Finished  # noqa: PLC0415
    from devtools.evaluate.gateway import Gateway  # noqa: PLC0415
    from devtools.evaluate.options import Options  # noqa: PLC0415
    from devtools.evaluate.report import write_report  # noqa: PLC0415
    from devtools.evaluate.suites import read_suite  # noqa: PLC0415

    spec, workspace = run.assignment.spec, run.workspace
    if spec.base is None or not spec.datasets or spec.result is not Kind.REPORT or spec.result_name is None:
        raise InvalidInput("a job of kind evaluate takes a version and suites, and makes a report", param="datasets")
    url, key = _gateway(settings)
    options = Options.from_toml(spec.recipe)
    suites = []
    for one in spec.datasets:
        folder, manifest = await fetch_version(run.store, one, DatasetManifest, workspace.inputs, run.cache)
        suites.append(read_suite(one.reference, one.digest, manifest, folder, n=options.n))
    if run.assignment.checkpoint is not None and not (workspace.checkpoints / _FINISHED_FILE).exists():
        await fetch_checkpoint(run.store, run.assignment.checkpoint, workspace.checkpoints, run.cache)
    reporter = _Reporter(run)
    async with Gateway(url, key) as gateway:
        evaluation = await prepare(gateway, options, suites)
        if evaluation.subject.digest != spec.base.digest:
            raise Conflict(
                f"deployment {evaluation.subject.deployment} serves {evaluation.subject.reference} by now, and the"
                f" job was made for {spec.base.reference}"
            )
        with Finished(workspace.checkpoints / _FINISHED_FILE) as finished:
            saving = asyncio.create_task(reporter.save_now_and_then(), name="save checkpoints")
            try:
                items = await measure(gateway, evaluation, finished, on_progress=reporter.report, stop=run.stop)
            finally:
                saving.cancel()
                await asyncio.gather(saving, return_exceptions=True)
    if items is None:
        await reporter.save()
        raise Stopped
    report = write_report(workspace.output, evaluation, items, at=datetime.now(UTC), job=run.assignment.id)
    await upload_folder(run.store, workspace.output)
    run.messages.send(result=NewVersion(name=spec.result_name, kind=Kind.REPORT, manifest=report))


class _Reporter:
    """Sends progress and checkpoints."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._done = 0
        self._saved = 0
        self._began: tuple[float, int] | None = None
        self._reported_at = 0.0

    def report(self, done: int, total: int) -> None:
        """Called with each score."""
        now = time.monotonic()
        self._done = done
        if self._began is None:
            self._began = now, done
        elif now - self._reported_at < _PROGRESS_EVERY_S and done < total:
            return
        self._reported_at = now
        began, before = self._began
        left = (now - began) / (done - before) * (total - done) if done > before else None
        rate = {"items_per_second": (done - before) / (now - began)} if now > began and done > before else {}
        self._run.messages.send(progress=Progress(step=done, steps=total, eta_s=left, metrics=rate))

    async def save_now_and_then(self) -> None:
        """Put the scores so far into the store, until cancelled."""
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            if self._done > self._saved:
                await self.save()

    async def save(self) -> None:
        """Put the scores so far into the store."""
        step = self._done
        files = await upload_folder(self._run.store, self._run.workspace.checkpoints)
        self._run.messages.send(checkpoint=Checkpoint(step=step, files=files))
        self._saved = step


def _gateway(settings: Settings) -> tuple[str, str]:
    """URL and key; raises InvalidInput where the node does not have them."""
    if settings.job_gateway_url is None or settings.job_api_key_file is None:
        raise InvalidInput(NO_GATEWAY)
    return settings.job_gateway_url, _key(settings.job_api_key_file)


def _key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotFound(f"LLMOS_JOB_API_KEY_FILE: {path} can't be read: {error.strerror}") from None
    if not key:
        raise InvalidInput(
            f"LLMOS_JOB_API_KEY_FILE: {path} is empty; put a key into it, of"
            " 'llmos key create jobs --scope inference --scope read'"
        )
    return key
