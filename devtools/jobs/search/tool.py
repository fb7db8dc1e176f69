"""A job of kind `search`, from its inputs to its result."""

import asyncio
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

from devtools.jobs.search.plan import SearchPlan
from devtools.jobs.search.state import SearchState
from devtools.jobs.tool import Run, Stopped
from devtools.jobs.train.inputs import fetch_inputs
from devtools.jobs.train.plan import TABLE as JOB
from devtools.jobs.train.process import Event, run_trainer, trainer
from devtools.jobs.train.tool import result_of, threads_of
from devtools.toml import toml_text
from devtools.train.search.names import RESULT
from devtools.train.search.space import with_values
from shared.contracts.job import Progress
from shared.errors import ErrorPayload, LlmosError, from_payload
from shared.service.supervise import describe_exit

_METRICS = ("loss", "val_loss", "learning_rate", "tokens_per_second", "memory")


async def search(run: Run) -> None:
    """Search, or go on where an earlier attempt was; the best model becomes a version, with the best recipe.

    Raises:
        Stopped: SIGTERM came; what was found is in the store.
        InvalidInput: The recipe, the search, the rows or the base are wrong.
        StorageFull: No room for a checkpoint or the result; what was saved stays.
        LlmosError: The search ended without a result.
    """
    plan = SearchPlan.read(run.assignment.spec.recipe)
    inputs = await fetch_inputs(run, plan.training)
    output = run.workspace.output
    state = SearchState(run, output)
    await state.fetch()
    recipe, table = run.workspace.root / "recipe.toml", run.workspace.root / "search.toml"
    recipe.write_text(plan.training.recipe_toml, encoding="utf-8")
    table.write_text(plan.search_toml, encoding="utf-8")
    output.mkdir(parents=True, exist_ok=True)
    threads = threads_of(output, run.assignment.resources.threads, 1)
    command = trainer(
        recipe, plan.training, inputs, output, threads=threads,
        module="devtools.train.search", more=("--search", str(table)),
    )  # fmt: skip
    searching = _Searching(run, plan, state)
    uploading = asyncio.create_task(state.follow(), name="upload trials")
    try:
        code = await run_trainer(command, threads, run.stop, searching.take)
    finally:
        uploading.cancel()
        with suppress(asyncio.CancelledError):
            await uploading
    if searching.paused or (run.stop.is_set() and searching.best is None):
        await state.upload()
        raise Stopped
    if searching.best is None:
        raise searching.failure or LlmosError(f"the search {describe_exit(code)}; see the job's log")
    spec = inputs.spec.model_copy(update={"recipe": _best_recipe(plan, searching.best)})
    inputs = replace(inputs, spec=spec)
    run.messages.send(result=await result_of(run, plan.training, inputs, output / RESULT, state.upload))


def _best_recipe(plan: SearchPlan, values: dict[str, Any]) -> str:
    keys = with_values(plan.values, values)
    job = keys.pop(JOB, None)
    return toml_text({**keys, JOB: job} if job else keys)


class _Searching:
    """What the child process has said."""

    def __init__(self, run: Run, plan: SearchPlan, state: SearchState) -> None:
        self._run, self._plan, self._state = run, plan, state
        self._progress = Progress(steps=plan.table.trials)
        self.best: dict[str, Any] | None = None
        self.paused = False
        self.failure: LlmosError | None = None
        self._lowest: float | None = None

    def take(self, event: Event) -> None:
        """Take one of its events."""
        match event["event"]:
            case "trial_started":
                values = ", ".join(f"{key} {_short(value)}" for key, value in event["values"].items())
                _log(f"trial {event['trial'] + 1} of {event['trials']}: {values}")
                self._report(step=event["trial"], metrics={})
            case "step" | "validation":
                found = {name: event[name] for name in _METRICS if event.get(name) is not None}
                self._report(metrics={**self._progress.metrics, **found})
            case "trial_ended":
                self._ended(event)
            case "warning":
                _log(f"warning: {event['message']}")
            case "paused":
                self.paused = True
            case "searched":
                self.best = event["values"]
                _log(event["table"])
                _log(f"the best is trial {event['trial'] + 1}")
            case "failed":
                self.failure = from_payload(
                    ErrorPayload(**{key: event.get(key) for key in ("code", "message", "param")})
                )

    def _ended(self, event: Event) -> None:
        loss = event["val_loss"]
        reached = "without a loss" if loss is None else f"loss {loss:.4f} on held-out rows, {event['step']} steps"
        _log(f"trial {event['trial'] + 1} {event['state']}: {reached}")
        if loss is not None and event["state"] == "complete":
            self._lowest = loss if self._lowest is None else min(loss, self._lowest)
        self._report(step=event["trial"] + 1, metrics={})
        self._state.trial_ended()

    def _report(self, **changes: Any) -> None:
        if self._lowest is not None and "metrics" in changes:
            changes["metrics"] = {**changes["metrics"], "best_val_loss": self._lowest}
        self._progress = self._progress.model_copy(update=changes)
        self._run.messages.send(progress=self._progress)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # the job's log
