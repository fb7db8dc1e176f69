"""Quantiles of Student's t and of the normal distribution, without SciPy."""

import math
from statistics import NormalDist


def normal_quantile(probability: float) -> float:
    """The value below which a standard normal variable is with `probability`."""
    return NormalDist().inv_cdf(probability)


def t_quantile(probability: float, freedom: int) -> float:
    """The value below which a variable of Student's t distribution is with `probability`.

    Exact for one and two degrees of freedom; beyond, Hill's expansion (CACM algorithm 396) with one step of Newton's
    method, right to 1e-6 and better.

    Args:
        probability: Between 0 and 1, without these.
        freedom: Degrees of freedom, 1 or more.
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        twice = 2 * probability - 1
        return twice * math.sqrt(2 / (1 - twice * twice))
    return _refined(_expansion(normal_quantile(probability), freedom), probability, freedom)


def _expansion(z: float, freedom: int) -> float:
    """The beginning of the Cornish-Fisher expansion."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / math.pow(freedom, power) for power, term in enumerate(terms, start=1))


def _refined(start: float, probability: float, freedom: int) -> float:
    """Newton's method on the distribution, which is integrated by Simpson's rule."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    power = -(freedom + 1) / 2

    def density(x: float) -> float:
        return scale * math.pow(1 + x * x / freedom, power)

    x = start
    for _ in range(3):
        steps = 200
        width = x / steps
        inner = sum((4 if i % 2 else 2) * density(i * width) for i in range(1, steps))
        below = 0.5 + (density(0) + inner + density(x)) * width / 3
        x -= (below - probability) / density(x)
    return x
