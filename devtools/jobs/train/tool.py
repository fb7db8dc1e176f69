"""A job of kind `train`, from its inputs to its result."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from devtools.jobs.results import Made, version_of
from devtools.jobs.tool import Run, Stopped
from devtools.jobs.train.inputs import Inputs, fetch_inputs
from devtools.jobs.train.plan import Plan
from devtools.jobs.train.process import Event, launched, run_trainer, trainer
from devtools.jobs.train.rendezvous import Rendezvous, rendezvous_of
from devtools.jobs.train.state import SHAPE_FILE, StoredState
from shared.contracts.job import STOPPED_EXIT_CODE, Progress
from shared.errors import ErrorPayload, LlmosError, from_payload
from shared.service.supervise import describe_exit

_METRICS = ("loss", "val_loss", "learning_rate", "gradient_norm", "epoch", "tokens_per_second", "memory")


async def train(run: Run) -> None:
    """Train, or go on where an earlier attempt was; the result becomes a version.

    Of several nodes the first saves checkpoints, reports progress and makes the version; the others only train.

    Raises:
        Stopped: SIGTERM came; a checkpoint is in the store.
        InvalidInput: The recipe, the rows or the base are wrong.
        StorageFull: No room for a checkpoint or the result; what was saved stays.
        LlmosError: The training ended without a result.
    """
    plan = Plan.read(run.assignment.spec.recipe)
    leads = run.assignment.rank == 0
    with rendezvous_of(run, plan) as at:
        inputs = await fetch_inputs(run, plan)
        output = run.workspace.output
        state = StoredState(run, output)
        await state.fetch()
        training = _Training(run, state)
        code = await training.run(plan, inputs, output, at)
    if training.paused or (run.stop.is_set() and not training.finished):
        if leads:
            await state.upload()
        raise Stopped
    if not training.finished:
        raise training.failure or LlmosError(f"the training {describe_exit(code)}; see the job's log")
    if not leads:
        return
    run.messages.send(result=await result_of(run, plan, inputs, output / "result", state.upload))


class _Training:
    """The child process and what it has said."""

    def __init__(self, run: Run, state: StoredState) -> None:
        self._run = run
        self._state = state
        self._progress = Progress()
        self._answer_tokens = 0
        """Of an epoch."""
        self.finished = False
        self.paused = False
        self.failure: LlmosError | None = None

    async def run(self, plan: Plan, inputs: Inputs, output: Path, at: Rendezvous | None) -> int:
        """Run the process to its end, uploading checkpoints meanwhile; its exit code."""
        recipe = self._run.workspace.root / "recipe.toml"
        recipe.write_text(plan.recipe_toml, encoding="utf-8")
        threads = threads_of(output, self._run.assignment.resources.threads, plan.job.processes)
        command = trainer(recipe, plan, inputs, output, threads=threads)
        if at is not None:
            run_id = f"{self._run.assignment.id}-{self._run.assignment.attempt}"
            command = launched(command, at, plan.job.processes, run_id)
        uploading = asyncio.create_task(self._state.follow(), name="upload checkpoints")
        try:
            return await run_trainer(command, threads, self._run.stop, self._take, at=at)
        finally:
            uploading.cancel()
            with suppress(asyncio.CancelledError):
                await uploading

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "started":
                _log(
                    f"{event['parameters']:,} parameters learn from {event['items']} items, from step {event['step']}"
                )
                self._answer_tokens = event["answer_tokens"]
                self._report(step=event["step"], steps=event["steps"])
            case "step":
                metrics = {name: event[name] for name in _METRICS if event.get(name) is not None}
                metrics["trained_tokens"] = round(event["epoch"] * self._answer_tokens)
                self._report(step=event["step"], steps=event["steps"], eta_s=event["eta_s"], metrics=metrics)
            case "validation":
                metrics = {**self._progress.metrics, "val_loss": event["val_loss"]}
                self._report(metrics=metrics)
            case "checkpoint":
                self._state.checkpointed()
            case "warning":
                _log(f"warning: {event['message']}")
            case "paused":
                self.paused = True
            case "finished":
                self.finished = True
            case "failed":
                self.failure = from_payload(
                    ErrorPayload(**{key: event.get(key) for key in ("code", "message", "param")})
                )

    def _report(self, **changes: Any) -> None:
        self._progress = self._progress.model_copy(update=changes)
        self._run.messages.send(progress=self._progress)


async def result_of(run: Run, plan: Plan, inputs: Inputs, result: Path, save: Callable[[], Awaitable[None]]) -> Any:
    """The version of what the training left. SIGTERM ends the process: the next attempt begins here."""
    record = json.loads((result / "training.json").read_text(encoding="utf-8"))
    code = ", ".join(f"{name} {version}" for name, version in record["code"].items())
    metrics = {"steps": float(record["step"])}
    if record["val_loss"] is not None:
        metrics["val_loss"] = record["val_loss"]
    quantization = inputs.manifest.lineage.quantization if inputs.manifest else None
    made = Made(
        job=run.assignment.id,
        code=code,
        quantize=plan.quantize(quantization),
        base=inputs.manifest,
        metrics=metrics,
    )
    _log("the training is done; making a version of its result")
    making = asyncio.create_task(version_of(inputs.spec, result, run.store, made), name="make a version")
    stopping = asyncio.create_task(run.stop.wait(), name="wait for SIGTERM")
    await asyncio.wait({making, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if making.done():
        return making.result()
    await save()
    os._exit(STOPPED_EXIT_CODE)  # a conversion in its thread can't be ended otherwise


def threads_of(output: Path, reserved: int, processes: int) -> int:
    """Threads of each process: those that the job reserved, or all of this machine.

    The bits of a result depend on them, so they stay what they were when the run began, on any node.
    """
    path = output / SHAPE_FILE
    if path.exists():
        threads: int = json.loads(path.read_text(encoding="utf-8"))["threads"]
        return threads
    threads = max(1, (reserved or len(os.sched_getaffinity(0))) // processes)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"threads": threads, "processes": processes}), encoding="utf-8")
    partial.replace(path)
    return threads


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # the job's log
