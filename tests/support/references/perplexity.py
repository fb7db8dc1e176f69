"""Perplexity, computed independently of `devtools.convert.perplexity`."""

import math
from collections.abc import Sequence

import numpy as np

from devtools.convert.graph.block_matrix import Floats


def perplexity(logits: Floats, ids: Sequence[int]) -> float:
    """The exponential of the mean negative log likelihood of `ids[1:]`, each given those before it.

    Args:
        logits: float32 [S, vocab_size], row i made from `ids[: i + 1]`.
        ids: The S tokens.
    """
    surprises = []
    for row, following in zip(logits, ids[1:], strict=False):
        peak = float(row.max())
        total = peak + math.log(float(np.exp(row - peak, dtype=np.float64).sum()))
        surprises.append(total - float(row[following]))
    return math.exp(sum(surprises) / len(surprises))
