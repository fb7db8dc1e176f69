"""A search: trials one after another, each a training in a folder of its own.

At each validation at a distance of `validation.every` steps times a power of `reduction` a trial goes on only if it
is among the best there. A trial that goes on simply trains on; one that was killed or paused goes on from its own
checkpoint. The folders of all trials but the best are removed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devtools.toml import toml_text
from devtools.train.options import RunOptions
from devtools.train.progress import (
    Event,
    OnEvent,
    Paused,
    Searched,
    Started,
    Stepped,
    TrialEnded,
    TrialStarted,
    Validated,
    Warned,
)
from devtools.train.recipe import Recipe, parse_recipe
from devtools.train.result.folders import folder_digest
from devtools.train.run import train
from devtools.train.search.names import BEST_RECIPE, RESULT, STUDY, TRIALS
from devtools.train.search.space import SearchTable, Space, with_values
from devtools.train.search.study import Study, TrialRecord, table_of
from shared.errors import InvalidInput, TrainingDiverged

_FORWARDED = (Stepped, Validated, Warned)


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched: the keys of a recipe, the table, and what the table's words mean."""

    recipe: Mapping[str, Any]
    table: SearchTable
    space: Space

    @property
    def identity(self) -> str:
        """SHA-256 of all that it is."""
        said = {"recipe": parse_recipe(dict(self.recipe)).digest, "search": self.table.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def search(
    given: Search, options: RunOptions, *, on_event: OnEvent, asked_to_stop: Callable[[], bool] = lambda: False
) -> Searched | None:
    """Search, or go on; None if it was asked to stop: the same call goes on.

    Raises:
        InvalidInput: there are no held-out rows; values that do not go together; every trial diverged.
        Conflict: the folder holds another search.
        StorageFull: no room; what was saved stays.
    """
    recipe = parse_recipe(dict(given.recipe))
    if options.validation is None and not recipe.validation.share:
        raise InvalidInput(
            "a search compares losses on held-out rows: set validation.share, or give rows of a split 'validation'",
            param="validation.share",
        )
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    study = Study(output / STUDY, given.identity, given.table, given.space, first_step=recipe.validation.every)
    while (trial := study.next()) is not None:
        if asked_to_stop() or not _run(trial, study, given, options, on_event=on_event, asked_to_stop=asked_to_stop):
            on_event(Paused(trial.number))
            return None
        _keep_best(study, output / TRIALS)
    return _finish(study, given, output, on_event)


def _run(
    trial: TrialRecord,
    study: Study,
    given: Search,
    options: RunOptions,
    *,
    on_event: OnEvent,
    asked_to_stop: Callable[[], bool],
) -> bool:
    """Train a trial to its end; False if it was asked to stop before."""
    on_event(TrialStarted(trial.number, given.table.trials, trial.values))
    same = study.same_as(trial)
    if same is not None:
        study.end(trial, same.state, same.losses)
    else:
        run = _Run(trial, study, on_event, asked_to_stop)
        where = replace(options, output=options.output / TRIALS / f"{trial.number:04d}")
        if not run.train(_recipe(given, trial), where):
            return False
    steps = max((one.step for one in study.trials if one.state == "complete"), default=trial.step)
    on_event(TrialEnded(trial.number, trial.state, trial.loss, trial.step, max(steps, trial.step)))
    return True


class _Run:
    """One trial in training."""

    def __init__(
        self, trial: TrialRecord, study: Study, on_event: OnEvent, asked_to_stop: Callable[[], bool]
    ) -> None:
        self._trial, self._study = trial, study
        self._on_event, self._asked_to_stop = on_event, asked_to_stop
        self._steps = 0
        self._stops = False

    def train(self, recipe: Recipe, options: RunOptions) -> bool:
        """Whether the trial has ended."""
        try:
            done = train(
                recipe,
                options,
                on_event=self._take,
                asked_to_stop=lambda: self._stops or self._asked_to_stop(),
            )
        except TrainingDiverged as error:
            self._on_event(Warned(f"trial {self._trial.number}: {error.message}"))
            self._study.end(self._trial, "diverged")
            return True
        if done is not None:
            self._study.end(self._trial, "complete")
        elif self._stops:
            self._study.end(self._trial, "stopped")
        return done is not None or self._stops

    def _take(self, event: Event) -> None:
        match event:
            case Started():
                self._steps = event.steps
            case Validated():
                others_are_better = self._study.stops(self._trial, event.step, event.val_loss)
                self._stops = others_are_better and event.step < self._steps
        if isinstance(event, _FORWARDED):
            self._on_event(event)


def _recipe(given: Search, trial: TrialRecord) -> Recipe:
    try:
        return parse_recipe(with_values(given.recipe, trial.values))
    except InvalidInput as error:
        values = ", ".join(f"{key} = {value}" for key, value in trial.values.items())
        raise InvalidInput(f"trial {trial.number} ({values}): {error.message}", param=error.param) from None


def _keep_best(study: Study, folder: Path) -> None:
    """Remove the folders of trials that have ended, but the best's."""
    for trial in study.trials:
        if trial.state != "running" and trial is not study.best:
            shutil.rmtree(folder / f"{trial.number:04d}", ignore_errors=True)


def _finish(study: Study, given: Search, output: Path, on_event: OnEvent) -> Searched:
    best = study.best
    if best is None or best.loss is None:
        raise InvalidInput(
            "no trial came to a finite loss at its end; search lower learning rates, or look at the rows",
            param="over",
        )
    result = output / RESULT
    if not result.exists():
        (output / TRIALS / f"{best.number:04d}" / RESULT).rename(result)
    shutil.rmtree(output / TRIALS, ignore_errors=True)
    (output / BEST_RECIPE).write_text(toml_text(with_values(given.recipe, best.values)), encoding="utf-8")
    searched = Searched(
        best.number, best.loss, best.values, table_of(study.trials, best), str(result), folder_digest(result)
    )
    on_event(searched)
    return searched
