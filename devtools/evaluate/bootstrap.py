"""Seeded bootstrap over clusters, for metrics that are computed from sums over items, such as BLEU."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from devtools.evaluate.statistics import TAIL, Estimate, Floats, cluster_index

ROUNDS = 10_000
SEED = 20_260_101
_AT_ONCE = 500
"""Rounds whose weights are in memory at once."""
Combine = Callable[[Floats], Floats]
"""Sums [rounds, k] to the metric's values [rounds]."""


def estimate(sums: Floats, groups: Sequence[str], combine: Combine) -> Estimate:
    """A metric of the sums of all items, with its standard error and interval.

    Args:
        sums: [items, k], each item's part of the sums.
        groups: Of each item.
        combine: From sums to the metric.
    """
    by_cluster = _by_cluster(sums, groups)
    value = float(combine(by_cluster.sum(axis=0, keepdims=True))[0])
    draws = np.concatenate([combine(weights @ by_cluster) for weights in _weights(len(by_cluster))])
    return _of(value, draws, len(sums), len(by_cluster))


def paired(candidate: Floats, baseline: Floats, groups: Sequence[str], combine: Combine) -> Estimate:
    """The metric of the candidate minus that of the baseline; both are resampled with the same items."""
    ours, theirs = _by_cluster(candidate, groups), _by_cluster(baseline, groups)
    value = float((combine(ours.sum(axis=0, keepdims=True)) - combine(theirs.sum(axis=0, keepdims=True)))[0])
    draws = np.concatenate([combine(weights @ ours) - combine(weights @ theirs) for weights in _weights(len(ours))])
    return _of(value, draws, len(candidate), len(ours))


def _by_cluster(sums: Floats, groups: Sequence[str]) -> Floats:
    clusters = cluster_index(groups)
    result = np.zeros((int(clusters.max()) + 1, sums.shape[1]))
    np.add.at(result, clusters, sums)
    return result


def _weights(clusters: int) -> Iterator[Floats]:
    """How often each cluster is drawn: [rounds, clusters], in parts."""
    random = np.random.default_rng(SEED)
    shares = np.full(clusters, 1 / clusters)
    for begin in range(0, ROUNDS, _AT_ONCE):
        yield random.multinomial(clusters, shares, size=min(_AT_ONCE, ROUNDS - begin)).astype(np.float64)


def _of(value: float, draws: Floats, n: int, clusters: int) -> Estimate:
    draws = draws[np.isfinite(draws)]
    if clusters < 2 or len(draws) < 2 or not math.isfinite(value):
        return Estimate(value, None, None, None, n, clusters)
    low, high = np.quantile(draws, [1 - TAIL, TAIL])
    return Estimate(value, float(draws.std(ddof=1)), float(low), float(high), n, clusters)
