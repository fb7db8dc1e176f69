"""Tango's score interval for the difference of two rates on the same items.

Its variance is that of the difference that is tested, not that of the estimate. So a model at a margin passes as
often as it may, where the usual interval is too short when the estimate is a lucky one. Source: Tango, "Equivalence
test and confidence interval for the difference in proportions for the paired-sample design" (1998).
"""

import math
from collections.abc import Callable

from devtools.evaluate.student import normal_quantile

_STEPS = 60
"""Of bisection: beyond the precision of a float."""


def score_interval(gained: int, lost: int, n: int, tail: float) -> tuple[float, float]:
    """The interval of (gained - lost) / n.

    Args:
        gained: Items that only the first of the two has right.
        lost: Items that only the second has right.
        n: All items, 1 or more.
        tail: Probability below the upper end, 0.975 for 95 %.
    """
    z = normal_quantile(tail)
    estimate = (gained - lost) / n
    low = _root(lambda difference: _statistic(gained, lost, n, difference) - z, estimate, -1.0)
    high = _root(lambda difference: -_statistic(gained, lost, n, difference) - z, estimate, 1.0)
    return low, high


def _statistic(gained: int, lost: int, n: int, difference: float) -> float:
    """How far the counts are from a true `difference`, in standard errors under it."""
    a, b = 2 * n, -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    loss_rate = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * loss_rate + difference * (1 - difference))
    distance = gained - lost - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _root(above: Callable[[float], float], inside: float, outside: float) -> float:
    """Where `above` becomes positive on the way from `inside` to `outside`."""
    if above(outside) <= 0:
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if above(middle) > 0:
            outside = middle
        else:
            inside = middle
    return (inside + outside) / 2
