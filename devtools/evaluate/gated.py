"""A gate over reports: the items that both versions have, by suite, and the verdict on each."""

from collections.abc import Iterable, Mapping, Sequence

from devtools.evaluate.gate import Verdict, judge
from devtools.evaluate.policy import Policy
from devtools.evaluate.scores import paired, parts
from shared.contracts.manifest import Digest
from shared.contracts.report import ItemScore, ReportItem, ReportManifest
from shared.errors import InvalidInput

Report = tuple[ReportManifest, Sequence[ReportItem]]


def joined(reports: Iterable[Report], subject: Digest, baseline: Digest) -> list[ReportItem]:
    """The items of both versions, wherever they were measured: in one report, or in one each.

    Raises:
        InvalidInput: The reports do not have both versions.
    """
    lines: dict[tuple[str, str], ReportItem] = {}
    found: Mapping[Digest | None, dict[tuple[str, str], ItemScore]] = {subject: {}, baseline: {}}
    for manifest, items in reports:
        for item in items:
            key = item.suite, item.item
            lines.setdefault(key, item)
            if manifest.subject in found:
                found[manifest.subject][key] = item.subject
            if manifest.baseline in found and item.baseline is not None:
                found[manifest.baseline][key] = item.baseline
    both = [key for key in lines if key in found[subject] and key in found[baseline]]
    if not both:
        raise InvalidInput(
            "the reports have no item that both versions were asked; make one of both: llmos evaluate REF --against"
            " REF2 --suite …",
            param="report",
        )
    return [
        lines[key].model_copy(update={"subject": found[subject][key], "baseline": found[baseline][key]})
        for key in both
    ]


def verdicts(items: Sequence[ReportItem], policy: Policy) -> list[Verdict]:
    """On the first metric of each scorer of each suite that the policy asks for.

    Args:
        items: Of both versions.
        policy: What is asked.

    Raises:
        InvalidInput: A suite has no items of both versions.
    """
    found = []
    for part in parts(items):
        rule = policy.rule_of(part.suite)
        if rule is None:
            continue
        ours, theirs, groups = paired(part, part.primary)
        if not ours:
            raise InvalidInput(
                f"{part.suite}: no item could be put to both versions by {part.scorer}; the report says why",
                param="suite",
            )
        found.append(judge(part.suite, part.primary, ours, theirs, groups, rule=rule))
    if missing := policy.missing({item.suite for item in items}):
        raise InvalidInput(f"the reports have no items of {', '.join(missing)}", param="suite")
    return found
