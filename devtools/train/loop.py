"""The loop: a step, now and then a validation and a checkpoint, until the end or until it is asked to stop."""

import time
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor, nn

from devtools.train.checkpoint import Checkpoints, State
from devtools.train.distributed import World, like, whole
from devtools.train.examples import Item
from devtools.train.objective.objective import Objective
from devtools.train.options import CheckpointInterval
from devtools.train.progress import Checkpointed, OnEvent, Stepped, Validated
from devtools.train.recipe import Recipe
from devtools.train.stepper import Stepper, StepReport

_WEIGHT = "weight"


class Loop:
    """Trains from the newest checkpoint, or from the start, to the end.

    Args:
        stepper: Makes steps and validates.
        recipe: What to do.
        total: Steps of the whole run.
        epoch_items: Items that an epoch has.
        validation: Held-out items and the objective on them; None without.
        checkpoints: Where states are kept.
        interval: How often.
        trained: Name -> parameter and the optimiser's state, of now (`named_state`).
        world: The processes.
        on_event: Called with what happens, in the first process.
        asked_to_stop: Whether to write a checkpoint and return.
    """

    def __init__(
        self,
        stepper: Stepper,
        recipe: Recipe,
        *,
        total: int,
        epoch_items: int,
        validation: tuple[Sequence[Item], Objective] | None,
        checkpoints: Checkpoints,
        interval: CheckpointInterval,
        trained: Callable[[], dict[str, tuple[nn.Parameter, dict[str, Tensor]]]],
        world: World,
        on_event: OnEvent,
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._stepper, self._recipe, self._total, self._epoch_items = stepper, recipe, total, epoch_items
        self._validation, self._checkpoints, self._interval = validation, checkpoints, interval
        self._trained, self._world, self._on_event, self._asked_to_stop = trained, world, on_event, asked_to_stop
        self._seconds, self._tokens, self._steps = 0.0, 0, 0
        self._process = psutil.Process()

    def run(self, state: State) -> bool:
        """Train on from `state`, which is changed; returns whether the run is done, or else was asked to stop.

        Raises:
            TrainingDiverged: the loss is not a number.
            StorageFull: no room for a checkpoint.
        """
        saved, saved_at = state.step, time.monotonic()
        while state.step < self._total and not self._ended_early(state):
            if self._world.any(self._asked_to_stop()):
                break
            began = time.monotonic()
            # Several processes have to stop at the same step, one may stop within.
            report = self._stepper.step(state.step, self._asked_to_stop if self._world.size == 1 else _never)
            if report is None:
                break
            state.step += 1
            self._report(state, report, time.monotonic() - began)
            improved = self._validate(state)
            since = self._world.sum(time.monotonic() - saved_at) / self._world.size
            if improved or self._interval.due(state.step, since):
                self._save(state)
                saved, saved_at = state.step, time.monotonic()
        if saved != state.step or self._world.any(self._world.first and not self._checkpoints.steps()):
            self._save(state)
        return state.step >= self._total or self._ended_early(state)

    def _ended_early(self, state: State) -> bool:
        limit = self._recipe.validation.stop_after
        return bool(limit) and state.worse >= limit

    def _validate(self, state: State) -> bool:
        """Validate if it is time; returns whether this is the best so far."""
        if self._validation is None:
            return False
        if state.step % self._recipe.validation.every and state.step != self._total:
            return False
        loss = self._stepper.validate(*self._validation)
        best = state.best_loss is None or loss < state.best_loss
        state.val_loss = loss
        state.worse = 0 if best else state.worse + 1
        if best:
            state.best_step, state.best_loss = state.step, loss
        self._emit(Validated(state.step, loss, best))
        return best

    def _report(self, state: State, report: StepReport, seconds: float) -> None:
        self._seconds, self._tokens, self._steps = (
            self._seconds + seconds,
            self._tokens + report.tokens,
            self._steps + 1,
        )
        self._emit(
            Stepped(
                step=state.step,
                steps=self._total,
                loss=report.loss,
                val_loss=state.val_loss,
                learning_rate=report.rate,
                gradient_norm=report.norm,
                epoch=state.step * self._recipe.batch / self._epoch_items,
                micro_batches=report.micro_batches,
                shape=report.shape,
                tokens_per_second=self._tokens / max(self._seconds, 1e-9),
                eta_s=(self._total - state.step) * self._seconds / self._steps,
                memory=self._process.memory_info().rss,
            )
        )

    def _save(self, state: State) -> None:
        tensors: dict[str, Tensor] = {}
        for name, (parameter, moments) in self._trained().items():
            tensors |= {f"{name}/{part}": whole(values) for part, values in [(_WEIGHT, parameter), *moments.items()]}
        if self._world.first:
            path = self._checkpoints.save(state, tensors)
            self._emit(Checkpointed(state.step, str(path)))

    def _emit(self, event: Stepped | Validated | Checkpointed) -> None:
        if self._world.first:
            self._on_event(event)


@torch.no_grad()
def restore(
    tensors: dict[str, Tensor],
    trained: dict[str, tuple[nn.Parameter, dict[str, Tensor]]],
    optimizer: torch.optim.Optimizer | None,
) -> None:
    """Put weights, and with an `optimizer` its moments, back to where a checkpoint had them."""
    for name, (parameter, _) in trained.items():
        prefix = f"{name}/"
        parts = {key.removeprefix(prefix): values for key, values in tensors.items() if key.startswith(prefix)}
        parameter.copy_(like(parts.pop(_WEIGHT), parameter))
        if optimizer is not None and parts:
            optimizer.state[parameter] = {
                part: values if part == "step" else like(values, parameter) for part, values in parts.items()
            }


def _never() -> bool:
    return False
