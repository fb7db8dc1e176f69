"""Values with their uncertainty: means clustered by group, differences of pairs, Wilson's interval.

The formulas are those of Miller, "Adding error bars to evals" (2024, arXiv 2411.00640), with the usual correction for
few clusters: without groups the standard error is that of a mean. Intervals are of 95 % and use Student's t.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devtools.evaluate.score_interval import score_interval
from devtools.evaluate.student import normal_quantile, t_quantile

CONFIDENCE = 0.95
TAIL = 1 - (1 - CONFIDENCE) / 2
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value; `stderr`, `low` and `high` are None for a single cluster, of which nothing can be said."""

    value: float
    stderr: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int


def cluster_index(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of each item's cluster, 0 and up; an item with the group "" is one of its own."""
    names: dict[str, int] = {}
    return np.array(
        [names.setdefault(f"g{group}" if group else f"i{index}", len(names)) for index, group in enumerate(groups)],
        dtype=np.int64,
    )


def mean(values: Sequence[float] | Floats, groups: Sequence[str]) -> Estimate:
    """The mean of `values`; where all are 0 or 1 and no group has two, the interval is Wilson's."""
    x = np.asarray(values, dtype=np.float64)
    clusters = cluster_index(groups)
    value, variance, count = _clustered(x, clusters)
    if variance is None:
        return Estimate(value, None, None, None, len(x), count)
    error = math.sqrt(variance)
    if count == len(x) and _are_rates(x):
        low, high = wilson(int(x.sum()), len(x))
    else:
        reach = t_quantile(TAIL, count - 1) * error
        low, high = value - reach, value + reach
    return Estimate(value, error, low, high, len(x), count)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate: it has a width also at 0 and at 1."""
    z = normal_quantile(TAIL)
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def paired(
    candidate: Sequence[float] | Floats, baseline: Sequence[float] | Floats, groups: Sequence[str]
) -> Estimate:
    """Mean of candidate minus baseline on the same items.

    Few discordant items, or none, say little about how many there are: half an item is added on each side, as far
    apart as the most different pair (1 if no pair differs), as Agresti and Min (2005) do for rates. Without it five
    equal answers would prove that two models are equal. Of rates without groups the interval is Tango's.
    """
    x = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    clusters = cluster_index(groups)
    count = int(clusters.max()) + 1 if len(x) else 0
    value = float(x.mean()) if len(x) else math.nan
    if count < 2:
        return Estimate(value, None, None, None, len(x), count)
    size = len(x) / count
    sums = np.bincount(clusters, weights=x)
    apart = float(np.abs(x).max()) or 1.0
    total = len(x) + 2 * size
    middle = float(x.sum()) / total
    counts = np.bincount(clusters)
    squares = float(((sums - middle * counts) ** 2).sum()) + 0.5 * _square(size, apart, middle)
    error = math.sqrt(squares * count / (count - 1)) / total
    if count == len(x) and _are_rates(candidate) and _are_rates(baseline):
        low, high = score_interval(int((x > 0).sum()), int((x < 0).sum()), len(x), TAIL)
        return Estimate(value, error, low, high, len(x), count)
    reach = t_quantile(TAIL, count - 1) * error
    return Estimate(value, error, middle - reach, middle + reach, len(x), count)


def _are_rates(values: Sequence[float] | Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _square(size: float, apart: float, middle: float) -> float:
    return size * size * ((apart - middle) ** 2 + (apart + middle) ** 2)


def _clustered(x: Floats, clusters: npt.NDArray[np.int64]) -> tuple[float, float | None, int]:
    """Mean, variance of the mean (None for one cluster), number of clusters."""
    value = float(x.mean()) if len(x) else math.nan
    count = int(clusters.max()) + 1 if len(x) else 0
    if count < 2:
        return value, None, count
    sums = np.bincount(clusters, weights=x - value)
    return value, float((sums**2).sum()) * count / (count - 1) / len(x) ** 2, count
