"""From the scores of items to the figures of a report: values, and differences on the same items."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from devtools.evaluate.metric import Metric
from devtools.evaluate.scorers.catalogue import SCORERS
from shared.contracts.report import Difference, ItemScore, ReportItem, Score
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Part:
    """The items of a suite that one scorer scored.

    prefix: of its metrics' names, where the suite has several scorers
    """

    suite: str
    scorer: str
    prefix: str
    items: tuple[ReportItem, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that its items have, the one for gates first."""
        base = _metrics(self.scorer)
        mistyped = [one for metric in base for one in _with_typos(metric)]
        present = [item.subject for item in self.items]
        return tuple(metric for metric in (*base, *mistyped) if any(metric.has(score) for score in present))

    @property
    def primary(self) -> Metric:
        """The metric that gates look at."""
        return _metrics(self.scorer)[0]

    def named(self, metric: Metric) -> str:
        """Its name in reports."""
        return self.prefix + metric.name


def parts(items: Iterable[ReportItem]) -> list[Part]:
    """The items by suite and scorer, in order."""
    by_key: dict[tuple[str, str], list[ReportItem]] = {}
    for item in items:
        by_key.setdefault((item.suite, item.scorer), []).append(item)
    suites = [suite for suite, _ in by_key]
    return [
        Part(suite, scorer, f"{scorer}." if suites.count(suite) > 1 else "", tuple(found))
        for (suite, scorer), found in by_key.items()
    ]


def scores(items: Sequence[ReportItem], *, of_baseline: bool = False) -> tuple[Score, ...]:
    """Each metric of each suite, and by category where the items have some: `accuracy/gender`."""
    found: list[Score] = []
    for part in parts(items):
        categories = sorted({item.category for item in part.items if item.category})
        for category in ("", *(categories if len(categories) > 1 else ())):
            some = [item for item in part.items if not category or item.category == category]
            for metric in part.metrics:
                name = part.named(metric) + (f"/{category}" if category else "")
                found += _score(part.suite, name, metric, some, of_baseline=of_baseline)
    return tuple(found)


def differences(items: Sequence[ReportItem]) -> tuple[Difference, ...]:
    """Subject minus baseline, of each metric of each suite; one that has no interval is left out."""
    found = []
    for part in parts(items):
        for metric in part.metrics:
            ours, theirs, groups = paired(part, metric)
            if not ours:
                continue
            result = metric.difference(ours, theirs, groups)
            if result.low is None or result.high is None:
                continue
            found.append(
                Difference(
                    suite=part.suite,
                    metric=part.named(metric),
                    value=result.value,
                    low=result.low,
                    high=result.high,
                    n=result.n,
                )
            )
    return tuple(found)


def paired(part: Part, metric: Metric) -> tuple[list[ItemScore], list[ItemScore], list[str]]:
    """The scores of items that both versions have, with the items' groups."""
    both = [
        (item.subject, item.baseline, item.group)
        for item in part.items
        if item.baseline is not None and metric.has(item.subject) and metric.has(item.baseline)
    ]
    return [one for one, _, _ in both], [other for _, other, _ in both], [group for _, _, group in both]


def _score(
    suite: str, name: str, metric: Metric, items: Sequence[ReportItem], *, of_baseline: bool
) -> Iterable[Score]:
    pairs = [(item.baseline if of_baseline else item.subject, item.group) for item in items]
    some = [(score, group) for score, group in pairs if score is not None and metric.has(score)]
    if not some:
        return
    result = metric.estimate([score for score, _ in some], [group for _, group in some])
    if not math.isfinite(result.value):  # such as the kappa of verdicts that are all the same
        return
    yield Score(
        suite=suite,
        metric=name,
        value=result.value,
        stderr=result.stderr,
        n=result.n,
        clusters=result.clusters if result.clusters != result.n else 0,
        higher_is_better=metric.higher_is_better,
        low=result.low,
        high=result.high,
    )


def _metrics(scorer: str) -> tuple[Metric, ...]:
    if scorer not in SCORERS:
        raise InvalidInput(f"the report has items of scorer {scorer!r}, which this version does not know")
    return SCORERS[scorer].metrics


def _with_typos(metric: Metric) -> tuple[Metric, ...]:
    mistyped = replace(metric, name=f"{metric.name}.typos")
    if metric.combine is not None:
        return (mistyped,)
    return mistyped, Metric(f"{metric.name}.fall", higher_is_better=not metric.higher_is_better)
