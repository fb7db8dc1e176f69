"""One training from start to end: the only place that connects the parts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from devtools.train.assemble import assemble, frozen, reference_of
from devtools.train.checkpoint import Checkpoints, State
from devtools.train.distributed import World, joined_world, shard, whole
from devtools.train.identity import agree, claim_output, digests, finished, machine, record
from devtools.train.inputs import Inputs, read_inputs
from devtools.train.loop import Loop, restore
from devtools.train.model.lora import merged_weights
from devtools.train.objective.objective import Objective
from devtools.train.options import RunOptions
from devtools.train.progress import Finished, OnEvent, Paused, Started, Warned
from devtools.train.recipe import Recipe
from devtools.train.result.hf_config import hf_config
from devtools.train.result.write import Adapter, Weights, write_result
from devtools.train.stepper import Stepper, make_optimizer, named_state, products
from shared.errors import CorruptFile
from shared.text.tokenizer import Tokenizer


def train(
    recipe: Recipe,
    options: RunOptions,
    *,
    on_event: OnEvent,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Finished | None:
    """Run a training, or continue it; None if it was asked to stop and has written a checkpoint.

    Raises:
        InvalidInput: the recipe, the rows or the base; TrainingDiverged among them.
        NotFound: a file that does not exist.
        Conflict: the output belongs to another run.
        StorageFull: no room; the checkpoints before stay.
    """
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    kind = options.result_kind(recipe)
    with joined_world() as world:
        # Bits depend on the number of threads, so all processes have as many.
        if (threads := world.of_first(options.threads)) is not None:
            torch.set_num_threads(threads)
        emit = on_event if world.first else _silent
        emit_end = on_event if world.first_of_node else _silent
        inputs = world.in_turn(lambda: _inputs(recipe, options))
        names = digests(recipe, inputs, options.adapter)
        agree(world, names)
        precision = claim_output(world, options.output, names, recipe)
        result = options.output / "result"
        done = _finished(world, result, kind)
        if done is None:
            config = hf_config(inputs.model.architecture, inputs.model.weights) if kind == "model" else None
            run = _Run(recipe, options, inputs, world=world, precision=precision, emit=emit)
            state = run.train(names, asked_to_stop)
            if state is None:
                emit_end(Paused(run.stopped_at))
                return None
            described = record(recipe, inputs, names, precision, step=state.step, val_loss=state.best_loss)
            contents = run.contents(config)  # of all processes together, where weights are sharded
            if world.first:
                write_result(result, inputs.model, contents, record=described)
            done = _finished(world, result, kind)
            assert done is not None
        emit_end(done)
        return done


class _Run:
    """The parts of a run, connected."""

    def __init__(  # everything that a run is made of
        self, recipe: Recipe, options: RunOptions, inputs: Inputs, *, world: World, precision: str, emit: OnEvent
    ) -> None:
        self._recipe, self._options, self._inputs, self._world = recipe, options, inputs, world
        self._precision, self._emit = precision, emit
        bfloat16 = precision == "bfloat16"
        self.decoder, self.shape, self._error = assemble(
            inputs.model, recipe, adapter=options.adapter, keep_codes=options.keep_codes, recompute=options.recompute
        )
        items = [*inputs.items, *inputs.validation]
        reference = None
        if recipe.method == "dpo":
            reference = reference_of(self.decoder, items, recipe, products(bfloat16=bfloat16))
        teacher = None if inputs.teacher is None else frozen(inputs.teacher, max_len=recipe.max_len)
        self._sharded = sharded = recipe.weights != "adapter" and shard(self.decoder, world)
        tokenizer = Tokenizer(inputs.model.text.tokenizer.to_str())

        def objective(*, plain: bool) -> Objective:
            return Objective(recipe, self.decoder, tokenizer, teacher=teacher, reference=reference, plain=plain)

        self._objective, self._plain = objective(plain=False), objective(plain=True)
        self._optimizer = make_optimizer(self.decoder, self._objective, recipe)
        self._total = recipe.total_steps(len(inputs.items))
        self._stepper = Stepper(
            self.decoder, self._objective, inputs.items, recipe, self._optimizer, total=self._total, world=world,
            sharded=sharded, bfloat16=bfloat16,
        )  # fmt: skip
        self._checkpoints = Checkpoints(options.output / "checkpoints", machine(world))
        self.stopped_at = 0
        """The step of the checkpoint with which a run that was asked to stop has ended."""

    def train(self, names: dict[str, str], asked_to_stop: Callable[[], bool]) -> State | None:
        """Train to the end and keep the best weights; returns their state, or None if it was paused."""
        state = self._resume()
        self._emit(self._started(state, names))
        validation = (self._inputs.validation, self._plain) if self._inputs.validation else None
        loop = Loop(
            self._stepper, self._recipe, total=self._total, epoch_items=len(self._inputs.items),
            validation=validation, checkpoints=self._checkpoints, interval=self._options.interval,
            trained=self._trained, world=self._world, on_event=self._emit, asked_to_stop=asked_to_stop,
        )  # fmt: skip
        if not loop.run(state):
            self.stopped_at = state.step
            return None
        if state.best_step is None or state.best_step == state.step:
            return state
        best = self._load(state.best_step)
        if best is None:
            raise CorruptFile(
                f"the checkpoint of the best step, {state.best_step}, is damaged; start the run in another folder",
                param="output",
            )
        restore(best[1], self._trained(), None)
        return best[0]

    def contents(self, config: dict[str, Any] | None) -> Adapter | Weights:
        """What the result holds: a model with a `config` of `hf_config`, else the adapter."""
        if config is None:
            assert self.shape is not None
            return Adapter(self.decoder, self.shape)
        merged = merged_weights(self.decoder)
        return Weights(config, [(name, whole(values)) for name, values in merged] if self._sharded else merged)

    def _trained(self) -> dict[str, tuple[nn.Parameter, dict[str, Tensor]]]:
        return named_state(self.decoder, self._objective, self._optimizer)

    def _resume(self) -> State:
        if self._world.first:
            for path in self._checkpoints.clean():
                self._emit(Warned(f"{path} is damaged and was removed"))
        now = machine(self._world)
        for other in self._world.each(now):
            for name in now:
                if other[name] != now[name]:
                    self._emit(
                        Warned(
                            f"{name} is {now[name]!r} in one process and {other[name]!r} in another: the bits of the"
                            " result depend on their order"
                        )
                    )
        newest = self._load(None)
        if newest is None:
            return State()
        state, tensors, before = newest
        for name in now:
            if before.get(name) != now[name]:
                self._emit(
                    Warned(f"{name} was {before.get(name)!r} and is {now[name]!r}: the bits of the result may differ")
                )
        restore(tensors, self._trained(), self._optimizer)
        return state

    def _load(self, step: int | None) -> tuple[State, dict[str, Tensor], Mapping[str, Any]] | None:
        """A checkpoint of the first process, the newest with `step` None; None if there is none, or it is damaged."""
        found = None
        if self._world.first:
            found = self._checkpoints.newest() if step is None else self._checkpoints.load(step)
        described = self._world.of_first(None if found is None else [asdict(found[0]), dict(found[2])])
        if described is None:
            return None
        return State(**described[0]), self._world.tensors_of_first(found[1] if found else {}), described[1]

    def _started(self, state: State, names: dict[str, str]) -> Started:
        items = self._inputs.items
        return Started(
            step=state.step,
            steps=self._total,
            items=len(items),
            validation_items=len(self._inputs.validation),
            skipped=len(self._inputs.skipped),
            answer_tokens=sum(example.answer_tokens for item in items for example in item),
            parameters=sum(parameter.numel() for parameter, _ in self._trained().values()),
            check=self._error,
            precision=self._precision,
            digests=names,
        )


def _inputs(recipe: Recipe, options: RunOptions) -> Inputs:
    return read_inputs(
        recipe, base=options.base, data=options.data, validation=options.validation, teacher=options.teacher,
        scratch=options.output / "base",
    )  # fmt: skip


def _finished(world: World, result: Path, kind: str) -> Finished | None:
    """The end of a run whose result the first process has already."""
    found = finished(result, kind) if world.first else None
    described = world.of_first(
        found and [found.step, found.val_loss, found.kind, found.path, found.digest],
    )
    return None if described is None else Finished(*described)


def _silent(event: object) -> None:
    del event
