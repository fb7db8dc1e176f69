"""The formulas, on logits [N, V] and the N tokens that follow: sums, which the caller divides."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def negative_log_likelihood(logits: Tensor, following: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """The objective of a language model: the sum of -log P(x_t | x_<t).

    Args:
        logits: float32 [N, V], each row computed from the tokens before x_t.
        following: The tokens x_t, int64 [N].
        smoothing: Share of the probability that all other tokens are to have (https://arxiv.org/abs/1512.00567).
    """
    return F.cross_entropy(logits, following, reduction="sum", label_smoothing=smoothing)


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """R-Drop's divergence: the mean of both Kullback-Leibler divergences of two passes, summed over N."""
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    there = F.kl_div(p, q, log_target=True, reduction="sum")
    return 0.5 * (there + F.kl_div(q, p, log_target=True, reduction="sum"))


def distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """KL(teacher || student) at a temperature, times its square, summed over N (https://arxiv.org/abs/1503.02531)."""
    student, soft = (logits / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return F.kl_div(student, soft, log_target=True, reduction="sum") * temperature**2


def log_probabilities(logits: Tensor, following: Tensor, owners: Tensor, examples: int) -> Tensor:
    """Log P of each example's answer: float32 [examples]; token n belongs to the example `owners[n]`."""
    tokens = logits.log_softmax(-1).gather(-1, following[:, None])[:, 0]
    return torch.zeros(examples, device=logits.device).index_add(0, owners, tokens)


def preference(chosen: Tensor, rejected: Tensor, reference: tuple[Tensor, Tensor], *, beta: float) -> Tensor:
    """DPO's -log sigmoid(beta * margin), summed over pairs (https://arxiv.org/abs/2305.18290).

    Args:
        chosen: log P of the chosen answers by the model in training, [P].
        rejected: Of the rejected ones.
        reference: Both by the model before training.
        beta: How far the model may move from it.
    """
    margin = (chosen - reference[0]) - (rejected - reference[1])
    return -F.logsigmoid(beta * margin).sum()
