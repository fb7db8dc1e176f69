"""One step: the gradient of a loss over many micro-batches, clipped, and one update of the weights."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from devtools.train.batches import Batch, alone, items_of_step, make_batch
from devtools.train.distributed import World, gathered_norm
from devtools.train.examples import Item
from devtools.train.lines import MicroBatch, lay_out, length_of
from devtools.train.model.decoder import Decoder
from devtools.train.objective.counts import Counts
from devtools.train.objective.objective import Objective
from devtools.train.recipe import Recipe
from devtools.train.recipe.schedule import rate_at
from shared.errors import TrainingDiverged


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did.

    loss: per learnt token (per pair with DPO), of all processes
    rate: the learning rate
    norm: of the gradient, before clipping
    micro_batches: of this process
    shape: rows and tokens of the largest of them
    tokens: of this process, without padding
    """

    loss: float
    rate: float
    norm: float
    micro_batches: int
    shape: tuple[int, int]
    tokens: int


def micro_seed(seed: int, step: int, rank: int, number: int) -> int:
    """What dropout and noise of a micro-batch are drawn with: a function, not a stream that a restart would lose."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def make_optimizer(decoder: Decoder, objective: Objective, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW on what is trained; matrices decay, norms and biases don't."""
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    table = recipe.optimizer
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": table.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.robust.reverse is not None:
        rate = recipe.robust.reverse.learning_rate
        groups.append({"params": list(objective.parameters()), "weight_decay": 0.0, "fixed_rate": rate})
    betas = (table.beta1, table.beta2)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, betas=betas)


def products(*, bfloat16: bool) -> AbstractContextManager[None]:
    """Inside, matrix products are computed in bfloat16, with float32 sums and weights, or all in float32."""
    return torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext()


class Stepper:
    """Makes steps.

    Args:
        decoder: What is trained, in training mode.
        objective: What is minimised.
        items: What is learnt.
        recipe: How.
        optimizer: Of `make_optimizer`.
        total: Steps of the whole run.
        world: The processes.
        sharded: Whether the weights are sharded over them.
        bfloat16: Whether products are computed in bfloat16.
    """

    def __init__(
        self,
        decoder: Decoder,
        objective: Objective,
        items: Sequence[Item],
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        *,
        total: int,
        world: World,
        sharded: bool,
        bfloat16: bool,
    ) -> None:
        self._decoder, self._objective, self._items, self._recipe = decoder, objective, items, recipe
        self._optimizer, self._total, self._world, self._sharded = optimizer, total, world, sharded
        self._bfloat16 = bfloat16
        self._trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]

    def step(self, step: int, asked_to_stop: Callable[[], bool]) -> StepReport | None:
        """Make `step` (from 0); None if it was asked to stop on the way, with all weights as before.

        Raises:
            TrainingDiverged: the loss or its gradient is not a number; the weights are as before.
        """
        recipe = self._recipe
        items = items_of_step(self._items, step, seed=recipe.seed, batch=recipe.batch)
        counts = self._objective.count(items)
        rate = self._set_rate(step)
        self._optimizer.zero_grad(set_to_none=True)
        loss, tokens, shapes = 0.0, 0, []
        for number, (lines, counted) in enumerate(self._share(items)):
            if asked_to_stop():
                return None
            torch.manual_seed(micro_seed(recipe.seed, step, self._world.rank, number))
            batch = make_batch(lines)
            part = self._loss(batch, counts) * (1.0 if counted else 0.0)
            if not math.isfinite(part.item()):
                raise self._diverged("loss", step, self._odd_rows(batch, counts))
            # Sharded gradients are averaged over processes on the way back, and here it is their sum that counts.
            (part * self._world.size if self._sharded else part).backward()
            loss += part.item()
            tokens += int(batch.lengths.sum())
            shapes.append(tuple(batch.ids.shape))
        self._world.sum_gradients([*self._trained, *self._objective.parameters()])
        norm = gathered_norm(self._trained, recipe.optimizer.clip)
        if not math.isfinite(norm):
            raise self._diverged("gradient", step, [example.row for item in items for example in item])
        self._optimizer.step()
        largest = max(shapes, key=math.prod, default=(0, 0))
        return StepReport(self._world.sum(loss), rate, norm, len(shapes), (largest[0], largest[1]), tokens)

    @torch.no_grad()
    def validate(self, items: Sequence[Item], objective: Objective) -> float:
        """The loss of `objective` on `items`, without dropout."""
        counts = objective.count(items)
        self._decoder.eval()
        loss = 0.0
        for lines, counted in self._share(items):
            batch = make_batch(lines)
            with products(bfloat16=self._bfloat16):
                loss += objective(batch, counts).item() * counted
        self._decoder.train()
        return self._world.sum(loss)

    def _loss(self, batch: Batch, counts: Counts) -> Tensor:
        with products(bfloat16=self._bfloat16):
            loss: Tensor = self._objective(batch, counts)
        return loss

    def _share(self, items: Sequence[Item]) -> Iterator[tuple[MicroBatch, bool]]:
        compute, robust = self._recipe.compute, self._recipe.robust
        # Noise and adversarial steps on embeddings are of an example: it needs a beginning of its own.
        share_beginning = not (robust.neftune or robust.fgm or robust.freelb)

        def divide(share: Sequence[Item]) -> list[MicroBatch]:
            return lay_out(
                share, tokens=compute.micro_tokens, packing=compute.packing, length=self._recipe.max_len,
                share=share_beginning,
            )  # fmt: skip

        yield from self._world.share(sorted(items, key=length_of), divide, even=self._sharded)

    def _set_rate(self, step: int) -> float:
        rate = self._recipe.learning_rate * rate_at(step, self._total, self._recipe.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = group.get("fixed_rate", rate)
        return rate

    @torch.no_grad()
    def _odd_rows(self, batch: Batch, counts: Counts) -> list[str]:
        """Of a micro-batch whose loss is not a number, the rows that have none by themselves; all if none has."""
        odd = []
        for row in batch.rows:
            own = alone([example for example in batch.examples if example.row == row])
            with products(bfloat16=self._bfloat16):
                if not math.isfinite(self._objective.clean(own, counts).item()):
                    odd.append(row)
        return odd or list(batch.rows)

    def _diverged(self, what: str, step: int, rows: Sequence[str]) -> TrainingDiverged:
        unique = list(dict.fromkeys(rows))
        named = ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
        return TrainingDiverged(
            f"the {what} is not a number at step {step + 1}, row {named}; lower optimizer.learning_rate"
            f" ({self._recipe.learning_rate:g}), or look at the row",
            param="optimizer.learning_rate",
        )


def named_state(
    decoder: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, tuple[nn.Parameter, dict[str, Tensor]]]:
    """Every trained parameter by name, with the optimiser's state for it."""
    modules = {"model": decoder, "objective": objective}
    return {
        f"{place}.{name}": (parameter, optimizer.state.get(parameter, {}))
        for place, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
