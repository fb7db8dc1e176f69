"""What is measured: metrics, and how the values of items become one value, or a difference of two versions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devtools.evaluate import bootstrap, statistics
from devtools.evaluate.bootstrap import Combine
from devtools.evaluate.score_interval import score_interval
from devtools.evaluate.statistics import TAIL, Estimate, Floats
from shared.contracts.report import ItemScore


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a suite.

    name: as it stands in reports
    higher_is_better: whether a rise is an improvement
    scale: the value that margins call 1: 100 for BLEU
    relative: a margin is a share of the baseline's value, not a difference of values
    combine: from sums over items to the value; None: the value is the mean of the items' values
    discrete: made of answers: equal values for all items do not show that two versions are equal
    """

    name: str
    higher_is_better: bool = True
    scale: float = 1.0
    relative: bool = False
    combine: Combine | None = None
    discrete: bool = True

    def has(self, score: ItemScore) -> bool:
        """Whether an item was scored by this metric."""
        return self.name in (score.values if self.combine is None else score.sums)

    def estimate(self, scores: Sequence[ItemScore], groups: Sequence[str]) -> Estimate:
        """The value of a suite; all `scores` have the metric."""
        if self.combine is None:
            return statistics.mean([score.values[self.name] for score in scores], groups)
        return bootstrap.estimate(self._sums(scores), groups, self.combine)

    def difference(
        self, candidate: Sequence[ItemScore], baseline: Sequence[ItemScore], groups: Sequence[str]
    ) -> Estimate:
        """Candidate minus baseline on the same items, in the metric's own units."""
        if self.combine is None:
            ours, theirs = ([score.values[self.name] for score in scores] for scores in (candidate, baseline))
            return statistics.paired(ours, theirs, groups)
        return bootstrap.paired(self._sums(candidate), self._sums(baseline), groups, self.combine)

    def improvement(
        self, candidate: Sequence[ItemScore], baseline: Sequence[ItemScore], groups: Sequence[str]
    ) -> Estimate:
        """How much better the candidate is, in units of margins: 0.02 is two points or 2 %, positive is better."""
        if self.combine is None:
            found = self.difference(candidate, baseline, groups)
        else:
            combine = self._log if self.relative else self.combine
            found = bootstrap.paired(self._sums(candidate), self._sums(baseline), groups, combine)
            if self.discrete and found.low == found.high and found.low is not None:
                least, most = (end * self.scale for end in score_interval(0, 0, found.n, TAIL))  # as of equal rates
                found = Estimate(found.value, (most - least) / 4, least, most, found.n, found.clusters)
        sign = (1 if self.higher_is_better else -1) / self.scale
        ends = [None if end is None else sign * end for end in (found.low, found.high)]
        low, high = ends if sign > 0 else reversed(ends)
        error = None if found.stderr is None else found.stderr / self.scale
        return Estimate(sign * found.value, error, low, high, found.n, found.clusters)

    def _sums(self, scores: Sequence[ItemScore]) -> Floats:
        return np.array([score.sums[self.name] for score in scores], dtype=np.float64)

    def _log(self, sums: Floats) -> Floats:
        assert self.combine is not None
        with np.errstate(divide="ignore"):
            return np.log(self.combine(sums)) * self.scale


def ratio(sums: Floats) -> Floats:
    """First sum by second: a mean over what the second counts."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = sums[:, 0] / sums[:, 1]
    return result


def exp_ratio(sums: Floats) -> Floats:
    """Perplexity: of negative log-likelihoods and numbers of tokens."""
    result: Floats = np.exp(ratio(sums))
    return result


def bits_ratio(sums: Floats) -> Floats:
    """Nats and bytes to bits per byte."""
    result: Floats = ratio(sums) / math.log(2)
    return result
