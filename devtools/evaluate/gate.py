"""Whether a version may take the place of another: a non-inferiority test on paired items, per suite.

| the 95 % interval of candidate minus baseline | verdict |
|---|---|
| lies at or above the threshold | pass |
| lies below it | fail |
| contains it | undecided, with the number of items that would decide |

The threshold is `-may_fall_by`, or `must_rise_by`. All suites must pass. This is an intersection-union test: a
version that is too much worse in any suite passes in at most 2.5 % of cases, however many suites there are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from devtools.evaluate.metric import Metric
from devtools.evaluate.student import normal_quantile
from shared.contracts.report import ItemScore

MAY_FALL_BY = 0.02
_POWER = normal_quantile(0.9) + normal_quantile(0.975)
"""An interval of 95 % that leaves out a threshold so far away with 90 %, in standard errors."""
MOST_ITEMS = 1_000_000


class Outcome(StrEnum):
    """Of a gate, or of one suite."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of a suite; `must_rise_by` wins where it is given.

    Both are in the metric's unit of margins: 0.02 is two points of accuracy or of BLEU's hundred, and 2 % of a
    perplexity or of a time.
    """

    may_fall_by: float = MAY_FALL_BY
    must_rise_by: float | None = None

    @property
    def threshold(self) -> float:
        """The improvement that must be shown."""
        return -self.may_fall_by if self.must_rise_by is None else self.must_rise_by


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one suite.

    improvement, low, high: candidate minus baseline in units of margins, positive is better
    needed: items that would decide, if undecided; None: not known, since one cluster has no variance
    """

    suite: str
    metric: str
    outcome: Outcome
    improvement: float
    low: float | None
    high: float | None
    threshold: float
    n: int
    needed: int | None = None


def judge(
    suite: str,
    metric: Metric,
    candidate: Sequence[ItemScore],
    baseline: Sequence[ItemScore],
    groups: Sequence[str],
    *,
    rule: Rule,
) -> Verdict:
    """The verdict on one metric of one suite; the items are paired."""
    found = metric.improvement(candidate, baseline, groups)
    outcome = outcome_of(found.low, found.high, rule.threshold)
    needed = None
    if outcome is Outcome.UNDECIDED and found.stderr is not None:
        needed = items_needed(found.value, found.stderr, found.n, rule.threshold)
    return Verdict(suite, metric.name, outcome, found.value, found.low, found.high, rule.threshold, found.n, needed)


def outcome_of(low: float | None, high: float | None, threshold: float) -> Outcome:
    """What an interval says about a threshold; no interval says nothing."""
    if low is None or high is None:
        return Outcome.UNDECIDED
    if low >= threshold:
        return Outcome.PASS
    return Outcome.FAIL if high < threshold else Outcome.UNDECIDED


def items_needed(value: float, stderr: float, n: int, threshold: float) -> int:
    """Items with which the same variance would decide, with 90 % probability if the difference is as estimated.

    A difference that is estimated to be far from the threshold may be near it: at most the distance of two equal
    versions is counted, where that is not 0.
    """
    distance = min(abs(value - threshold), abs(threshold) or math.inf)
    if distance == 0:
        return MOST_ITEMS
    needed = n * (_POWER * stderr / distance) ** 2
    return min(MOST_ITEMS, max(n + 1, math.ceil(needed)))


def overall(verdicts: Iterable[Verdict]) -> Outcome:
    """Of all suites: fail if one fails, pass if all pass."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL
    return Outcome.PASS if outcomes == {Outcome.PASS} else Outcome.UNDECIDED
