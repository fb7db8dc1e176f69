"""Low-rank differences to weight matrices: LoRA (https://arxiv.org/abs/2106.09685) and DoRA (2402.09353).

`y = W x + scale * B A x`, with W frozen, A [rank, K] random and B [N, rank] zero at first, so that training starts
from the base model's function. DoRA learns the length of each row of W apart from its direction.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from devtools.train.model.decoder import MATRICES, Decoder
from devtools.train.model.linear import Linear


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What an adapter is.

    rank: of A and B
    scale: of the difference: alpha / rank, or alpha / sqrt(rank) (rsLoRA, https://arxiv.org/abs/2312.03732)
    targets: matrices of each layer that have one
    dropout: share of the input that is dropped in training
    dora: whether rows have a learnt length
    """

    rank: int
    scale: float
    targets: tuple[str, ...] = MATRICES
    dropout: float = 0.0
    dora: bool = False


class Lora(nn.Module):
    """The difference of one layer.

    Args:
        layer: Whose matrix is W.
        shape: Rank, scale, dropout.
        generator: Draws A.
    """

    def __init__(self, layer: Linear, shape: LoraShape, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = layer.shape
        self.scale, self.dropout = shape.scale, shape.dropout
        bound = 1 / math.sqrt(inputs)
        self.a = nn.Parameter(torch.empty(shape.rank, inputs).uniform_(-bound, bound, generator=generator))
        self.b = nn.Parameter(torch.zeros(outputs, shape.rank))
        self.length = nn.Parameter(layer.floats().detach().norm(dim=1)) if shape.dora else None
        """DoRA's magnitude: float32 [N]."""

    def difference(self) -> Tensor:
        """`scale * B A`: [N, K]."""
        return self.scale * (self.b @ self.a)

    def merged(self, layer: Linear) -> Tensor:
        """The matrix that computes what layer and difference compute together: [N, K]."""
        weight = layer.floats() + self.difference()
        return weight if self.length is None else weight * (self.length / weight.norm(dim=1))[:, None]

    def forward(self, x: Tensor, product: Tensor, layer: Linear) -> Tensor:
        """`product [..., N]` of `layer` and `x [..., K]`, changed."""
        change = self.scale * F.linear(F.linear(F.dropout(x, self.dropout, self.training), self.a), self.b)
        if self.length is None:
            return product + change
        with torch.no_grad():  # the paper's section 4.3: the norm is a constant of the gradient
            norm = (layer.floats() + self.difference()).norm(dim=1)
        return (product + change) * (self.length / norm)


def adapted(decoder: Decoder) -> Iterator[tuple[str, Linear, Lora]]:
    """The layers that have an adapter, by name: `blk.3.attn_q`."""
    for name, module in decoder.named_modules():
        if isinstance(module, Linear) and isinstance(module.adapter, Lora):
            yield name, module, module.adapter


def add_lora(decoder: Decoder, shape: LoraShape, *, seed: int) -> None:
    """Freeze `decoder` and give the target matrices of each layer an adapter that changes nothing yet."""
    decoder.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in decoder.blk:
        for name in shape.targets:
            linear = getattr(layer, name)
            linear.adapter = Lora(linear, shape, generator)


@contextmanager
def without_adapters(decoder: Decoder) -> Iterator[None]:
    """Inside, `decoder` computes what its base does."""
    layers = [(layer, adapter) for _, layer, adapter in adapted(decoder)]
    for layer, _ in layers:
        layer.adapter = None
    try:
        yield
    finally:
        for layer, adapter in layers:
            layer.adapter = adapter


def merged_weights(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of `decoder` by its GGUF name (without `.weight`) as float32, adapters merged, one at a time."""
    for name, module in decoder.named_modules():
        if isinstance(module, Linear):
            lora = module.adapter
            weight = lora.merged(module) if isinstance(lora, Lora) else module.floats()
            yield name, weight.detach()
            if module.bias is not None:
                yield f"{name}.bias", module.bias.detach()
        elif hasattr(module, "epsilon"):
            yield name, module.weight.detach()
