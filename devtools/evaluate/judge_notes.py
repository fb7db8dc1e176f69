"""What a report says of its judge: which version it is, how far it agrees with people, and whether it has a bias."""

from collections.abc import Iterator, Sequence

from devtools.evaluate.evaluation import Evaluation
from devtools.evaluate.scorers.catalogue import METRICS
from devtools.evaluate.statistics import Estimate, wilson
from shared.contracts.report import ReportItem

VALIDATED_FROM = 20
"""Human verdicts below which a judge is called unvalidated."""


def judge_notes(evaluation: Evaluation, items: Sequence[ReportItem]) -> Iterator[str]:
    """The notes; none without answers that were judged."""
    judge, judged = evaluation.judge, [item for item in items if item.scorer == "judge" and not item.subject.left_out]
    if judge is None or not judged:
        return
    yield f"The judge is {judge.reference}, asked in both orders."
    for one in evaluation.versions:
        if one.digest == judge.digest:
            yield f"{one.reference} judges its own answers."
    biases = [item.subject.sums["judge_position_bias"][0] for item in judged]
    first, last = sum(bias > 0 for bias in biases), sum(bias < 0 for bias in biases)
    low, high = wilson(max(first, last), first + last) if first + last else (0.0, 1.0)
    if low > 0.5:
        place = "first" if first > last else "last"
        yield (
            f"The judge has a bias: where its verdict changed with the order, it took the answer that came {place} in"
            f" {max(first, last)} of {first + last} cases ({low:.2f} to {high:.2f})."
        )
    agreement = _estimate("judge_agreement", judged)
    if agreement.n < VALIDATED_FROM:
        yield (
            f"Unvalidated judge: {agreement.n} answers have a human verdict (labels.human_answer,"
            f" labels.human_verdict); its agreement is known from {VALIDATED_FROM} on."
        )
    else:
        kappa = _estimate("judge_kappa", judged)
        yield (
            f"The judge agrees with {agreement.n} human verdicts: {_shown(agreement)}, Cohen's kappa {_shown(kappa)},"
            " with 95 % intervals."
        )


def _estimate(name: str, judged: Sequence[ReportItem]) -> Estimate:
    metric = METRICS[name]
    found = [item for item in judged if metric.has(item.subject)]
    return metric.estimate([item.subject for item in found], [item.group for item in found])


def _shown(found: Estimate) -> str:
    ends = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{ends}"
