"""What optuna knows of a search: the trials so far, the next one's values, whether a trial goes on.

All of it is in one file, written whole or not at all, from which a search that was killed makes its study again. The
values of a trial depend on the seed, its number and the trials before it, not on a stream that a restart would lose.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from devtools.train.search.space import Choice, Range, SearchTable, Space
from shared.errors import Conflict

State = Literal["running", "complete", "stopped", "diverged"]
_RUNG = "completed_rung_"
"""How the names of the pruner's notes begin."""
_STATES = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "diverged": TrialState.PRUNED}


@dataclass(slots=True)
class TrialRecord:
    """A trial, as it is on disk.

    values: of the keys that are searched
    losses: step -> loss on the held-out rows
    state: stopped: others were better at one of the validations; diverged: the loss was not a number
    notes: the pruner's own
    """

    number: int
    values: dict[str, Any]
    losses: dict[int, float] = field(default_factory=dict)
    state: State = "running"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def loss(self) -> float | None:
        """The lowest so far."""
        return min(self.losses.values(), default=None)

    @property
    def step(self) -> int:
        """Of the last validation."""
        return max(self.losses, default=0)


class Study:
    """The trials of a search.

    Args:
        path: Of the file.
        identity: What makes it the same search.
        table: How many trials, and the rest.
        space: What is searched.
        first_step: Of the first validation at which trials stop.

    Raises:
        Conflict: the file is of another search.
    """

    def __init__(self, path: Path, identity: str, table: SearchTable, space: Space, *, first_step: int) -> None:
        self._path, self._identity, self._table, self._first_step = path, identity, table, first_step
        self._distributions = {key: _distribution(one) for key, one in space.items()}
        self.trials = self._read()
        self._trial: optuna.Trial | None = None

    def next(self) -> TrialRecord | None:
        """The trial that goes on or begins; None after the last."""
        unfinished = [trial for trial in self.trials if trial.state == "running"]
        if not unfinished and len(self.trials) >= self._table.trials:
            return None
        number = unfinished[0].number if unfinished else len(self.trials)
        study = self._study(number)
        if not unfinished:
            self._trial = study.ask(self._distributions)
            self.trials.append(TrialRecord(number, dict(self._trial.params)))
            self._write()
            return self.trials[-1]
        study.enqueue_trial(unfinished[0].values)
        self._trial = study.ask(self._distributions)
        losses, unfinished[0].losses = unfinished[0].losses, {}
        for step, loss in losses.items():
            self.stops(unfinished[0], step, loss)
        return unfinished[0]

    def same_as(self, trial: TrialRecord) -> TrialRecord | None:
        """A trial before this one with the same values: training again would give the same."""
        return next((other for other in self.trials[: trial.number] if other.values == trial.values), None)

    def stops(self, trial: TrialRecord, step: int, loss: float) -> bool:
        """Note the loss of a validation of the trial that is running; whether others were better."""
        assert self._trial is not None
        if step not in trial.losses:
            trial.losses[step] = loss
            self._trial.report(loss, step)
        stops = self._trial.should_prune()
        notes = self._trial.study.get_trials(deepcopy=False)[trial.number].system_attrs
        trial.notes = {name: value for name, value in notes.items() if name.startswith(_RUNG)}
        self._write()
        return stops

    def end(self, trial: TrialRecord, state: State, losses: Mapping[int, float] | None = None) -> None:
        """Note that a trial has ended."""
        trial.state = state
        if losses is not None:
            trial.losses = dict(losses)
        self._write()

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the lowest loss, the earliest of equal ones; None if there is none yet."""
        return min(
            (trial for trial in self.trials if trial.state == "complete"),
            key=lambda trial: (trial.loss, trial.number),
            default=None,
        )

    def _study(self, number: int) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="minimize",
            sampler=TPESampler(seed=self._table.seed + number, n_startup_trials=5),
            pruner=SuccessiveHalvingPruner(min_resource=self._first_step, reduction_factor=self._table.reduction),
        )
        for trial in self.trials[:number]:
            study.add_trial(self._frozen(trial))
        return study

    def _frozen(self, trial: TrialRecord) -> optuna.trial.FrozenTrial:
        losses = trial.losses if trial.state != "diverged" else {self._first_step: float("inf")}
        return create_trial(
            state=_STATES[trial.state],
            value=trial.loss if trial.state == "complete" else None,
            params=trial.values,
            distributions=self._distributions,
            intermediate_values=dict(losses),
            system_attrs=trial.notes,
        )

    def _read(self) -> list[TrialRecord]:
        if not self._path.exists():
            return []
        found = json.loads(self._path.read_text(encoding="utf-8"))
        if found["search"] != self._identity:
            raise Conflict(f"{self._path.parent} holds another search; choose another folder", param="output")
        return [
            TrialRecord(**{**trial, "losses": {int(step): loss for step, loss in trial["losses"].items()}})
            for trial in found["trials"]
        ]

    def _write(self) -> None:
        partial = self._path.with_suffix(".partial")
        described = {"search": self._identity, "trials": [asdict(trial) for trial in self.trials]}
        partial.write_text(json.dumps(described, indent=2), encoding="utf-8")
        partial.replace(self._path)


def table_of(trials: Sequence[TrialRecord], best: TrialRecord | None) -> str:
    """The trials as a table for people, the best first."""
    order = sorted(trials, key=lambda trial: (trial is not best, trial.state != "complete", trial.loss or 0.0))
    keys = list(trials[0].values) if trials else []
    lines = [["trial", "val_loss", "step", "state", *keys]]
    for trial in order:
        loss = "" if trial.loss is None else f"{trial.loss:.4f}"
        shown = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.values.values()]
        lines.append([str(trial.number + 1), loss, str(trial.step), "best" if trial is best else trial.state, *shown])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _distribution(one: Range | Choice) -> BaseDistribution:
    if isinstance(one, Choice):
        return CategoricalDistribution(one.values)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.logarithmic)
    return FloatDistribution(one.low, one.high, log=one.logarithmic)
