"""Losses at places where one of two words follows: one that equalises both, and an adversary.

On a corpus whose bias is known, both reduced it and broke what is right too: docs/training.md has the figures.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from devtools.train.objective.marks import Mark

_CERTAIN = 0.7
"""The adversary's loss above which it knows nothing (ln 2) and the model gains nothing."""

Marks = Sequence[tuple[int, Mark]]


def equalising_loss(logits: Tensor, marks: Marks) -> Tensor:
    """The sum of |log P(first) - log P(second)| over `marks`, each a row of `logits` [N, V]."""
    places = torch.tensor([place for place, _ in marks])
    tokens = torch.tensor([mark.tokens for _, mark in marks])
    both = logits[places].log_softmax(-1).gather(-1, tokens)
    return (both[:, 0] - both[:, 1]).abs().sum()


class Adversary(nn.Module):
    """Reads from a hidden state which of two words follows; the model learns to hide it.

    Gradient reversal (https://arxiv.org/abs/1409.7495), written as two terms: the adversary learns from states that
    are cut off from the model, and the model from an adversary that is held fixed.
    """

    def __init__(self, hidden_size: int, pairs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight = nn.Parameter(torch.empty(pairs, hidden_size).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(pairs))

    def forward(self, states: Tensor, marks: Marks, *, weight: float) -> Tensor:
        """The sum over `marks`, each a row of `states` [N, H]."""
        at = states[torch.tensor([place for place, _ in marks])].float()
        pair = torch.tensor([mark.pair for _, mark in marks])[:, None]
        side = torch.tensor([float(mark.side) for _, mark in marks])
        own = self._losses(at.detach(), self.weight, self.bias, pair, side)
        against = self._losses(at, self.weight.detach(), self.bias.detach(), pair, side)
        return (own - weight * against.clamp(max=_CERTAIN)).sum()

    @staticmethod
    def _losses(states: Tensor, weight: Tensor, bias: Tensor, pair: Tensor, side: Tensor) -> Tensor:
        logits = F.linear(states, weight, bias).gather(-1, pair)[:, 0]
        return F.binary_cross_entropy_with_logits(logits, side, reduction="none")
