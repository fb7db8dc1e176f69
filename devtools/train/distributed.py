"""Several processes as one: `torchrun` starts them, each computes its share of the micro-batches of a step.

They may be on several nodes, without a folder in common: what the first reads or decides, it sends to the others.

Two ways, both exact because losses are sums divided by the counts of the whole step:

- data parallel: every process has all weights, and gradients are summed (what PyTorch's DDP does, which divides by
  the number of processes and sees one forward pass only);
- FSDP2 (https://arxiv.org/abs/2304.11277): weights, gradients and moments are sharded, for training all weights.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from devtools.train.model.decoder import Decoder
from shared.errors import Unavailable

Element = TypeVar("Element")
Part = TypeVar("Part")
Made = TypeVar("Made")
Json = Any
"""What JSON holds."""
_TURNS = 3
_TRANSPORT = "gloo/transport"
"""In the message of an error of the connection to another process; gloo raises nothing more special."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run: this one has `rank` of `size`."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the processes of this node."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @property
    def first_of_node(self) -> bool:
        """Whether this process makes the files that the others of its node read, and reports how the run ended."""
        return self.local_rank == 0

    def share(
        self, items: Sequence[Element], divide: Callable[[Sequence[Element]], list[Part]], *, even: bool
    ) -> list[tuple[Part, bool]]:
        """The parts of this process, each with whether it counts.

        Args:
            items: Of all processes, those that take about as long next to one another.
            divide: Makes parts of the items of a process.
            even: Whether every process gets as many parts. One that has fewer repeats one without counting it:
                sharded weights are gathered by all processes together.
        """
        shares = [divide(items[rank :: self.size]) for rank in range(self.size)]
        own = [(part, True) for part in shares[self.rank]]
        most = max(map(len, shares))
        return own + [(shares[0][0], False)] * (most - len(own)) if even else own

    def any(self, flag: bool) -> bool:
        """Whether any process has the flag."""
        return self.sum(float(flag)) > 0

    def sum(self, value: float) -> float:
        """The sum over processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)

    def in_turn(self, make: Callable[[], Made]) -> Made:
        """What `make` returns; others find the files of the first process, and of the first one of their node."""
        if self.size == 1:
            return make()
        turn = 0 if self.first else 1 if self.first_of_node else 2
        made: list[Made] = []
        for now in range(_TURNS):
            if now == turn:
                made.append(make())
            self.sum(0)
        return made[0]

    def of_first(self, value: Json) -> Json:
        """The first process's value."""
        return self._of(0, value)

    def each(self, value: Json) -> list[Json]:
        """The value of each process, by rank."""
        return [self._of(rank, value) for rank in range(self.size)]

    def tensors_of_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors; those of the others are not looked at."""
        if self.size == 1:
            return dict(tensors)
        described = self.of_first([[name, str(one.dtype), list(one.shape)] for name, one in tensors.items()])
        received: dict[str, Tensor] = {}
        for name, kind, shape in described:
            dtype = getattr(torch, kind.removeprefix("torch."))
            values = tensors[name].contiguous() if self.first else torch.empty(shape, dtype=dtype)
            dist.broadcast(values, src=0)
            received[name] = values
        return received

    def _of(self, rank: int, value: Json) -> Json:
        # As JSON: PyTorch's own way to send an object unpickles it, which runs what it is told.
        if self.size == 1:
            return value
        data = json.dumps(value).encode() if self.rank == rank else b""
        length = torch.tensor(len(data))
        dist.broadcast(length, src=rank)
        received = torch.empty(int(length), dtype=torch.uint8)
        if self.rank == rank:
            received.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(received, src=rank)
        return json.loads(received.numpy().tobytes())

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of all processes; sharded ones have been added on the way back."""
        if self.size == 1:
            return
        for parameter in parameters:
            if isinstance(parameter, DTensor):
                continue
            if parameter.grad is None:  # none of this process's rows touched it
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


@contextmanager
def joined_world() -> Iterator[World]:
    """The world that `torchrun` made, or a world of one.

    Raises:
        Unavailable: Another process has ended, or can't be reached.
    """
    if not dist.is_torchelastic_launched():
        yield World()
        return
    dist.init_process_group("gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    except RuntimeError as error:
        if _TRANSPORT not in str(error):
            raise
        raise Unavailable("another process of the training has ended; its log says why") from error
    finally:
        dist.destroy_process_group()


def shard(decoder: Decoder, world: World) -> bool:
    """Shard the weights of `decoder` over the processes; returns whether there is more than one."""
    if world.size == 1:
        return False
    mesh = init_device_mesh("cpu", (world.size,))
    for layer in decoder.blk:
        fully_shard(layer, mesh=mesh)
    fully_shard(decoder, mesh=mesh)
    for method in ("embed", "hidden", "head"):
        register_fsdp_forward_method(decoder, method)
    return True


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(values: Tensor, model: Tensor) -> Tensor:
    """`values`, sharded as `model` is."""
    if isinstance(model, DTensor):
        return distribute_tensor(values, model.device_mesh, model.placements)
    return values


def gathered_norm(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Clip the gradients of `parameters` to a norm of `limit`; returns the norm before."""
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    return float(whole(norm))
