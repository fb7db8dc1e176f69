"""Noise and adversarial steps on embedded tokens.

Sizes are per example, so neither padding nor packing changes them; examples do not share a beginning here.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from devtools.train.batches import Batch
from devtools.train.recipe.tables import Robust

LossOf = Callable[[Tensor], Tensor]
"""The loss of a micro-batch as a function of its embedded tokens [B, T, H]."""


def perturbed_loss(loss_of: LossOf, embedded: Tensor, batch: Batch, robust: Robust) -> Tensor:
    """The loss with what `robust` does to embeddings."""
    if robust.neftune:
        embedded = embedded + robust.neftune * _noise(embedded, batch)
    if robust.fgm:
        return _fgm(loss_of, embedded, batch, robust.fgm)
    if robust.freelb:
        return _freelb(loss_of, embedded, batch, robust.freelb, robust.freelb_steps)
    return loss_of(embedded)


def _fgm(loss_of: LossOf, embedded: Tensor, batch: Batch, size: float) -> Tensor:
    """The mean of the clean loss and of the one after a step of length `size` uphill (the fast gradient method)."""
    embedded = embedded if embedded.requires_grad else embedded.requires_grad_()
    clean = loss_of(embedded)
    (gradient,) = torch.autograd.grad(clean, embedded, retain_graph=True)
    return 0.5 * (clean + loss_of(embedded + size * _unit(gradient, batch)))


def _freelb(loss_of: LossOf, embedded: Tensor, batch: Batch, size: float, steps: int) -> Tensor:
    """The mean of the losses along `steps` steps uphill, from a random start."""
    offset = size * _noise(embedded, batch)
    losses = []
    for _ in range(steps):
        offset = offset.detach().requires_grad_()
        losses.append(loss_of(embedded + offset))
        (gradient,) = torch.autograd.grad(losses[-1], offset, retain_graph=True)
        offset = offset + size * _unit(gradient, batch)
    return torch.stack(losses).mean()


def _noise(embedded: Tensor, batch: Batch) -> Tensor:
    """Uniform noise in [-1, 1], over the root of the example's numbers (NEFTune's size); none on padding."""
    numbers = batch.lengths[batch.document.clamp(min=0)] * embedded.shape[-1]
    size = numbers.rsqrt() * (batch.document >= 0)
    return (2 * torch.rand_like(embedded) - 1) * size[..., None]


def _unit(gradient: Tensor, batch: Batch) -> Tensor:
    """`gradient` [B, T, H] over its norm in each example."""
    squares = (gradient.detach() ** 2).sum(-1)
    inside = batch.document >= 0
    norms = torch.zeros(len(batch.examples)).index_add(0, batch.document[inside], squares[inside]).sqrt()
    return gradient.detach() / (norms[batch.document.clamp(min=0)] + 1e-12)[..., None]
