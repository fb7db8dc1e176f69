"""An evaluation from its options to its items: the same on a node and in a terminal."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devtools.evaluate.finished import Finished
from devtools.evaluate.gateway import Gateway
from devtools.evaluate.options import Options
from devtools.evaluate.runner import Key, run, tasks_of
from devtools.evaluate.scorers.catalogue import scorer_of
from devtools.evaluate.scorers.scorer import Model
from devtools.evaluate.subject import Subject, check_still_served, find_subject
from devtools.evaluate.suites import Suite, check_suites
from shared.contracts.report import ItemScore, ReportItem
from shared.errors import InvalidInput

OnProgress = Callable[[int, int], None]
"""Called with the scores that are there and those that there will be."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated, with which suites."""

    options: Options
    subject: Subject
    baseline: Subject | None
    suites: tuple[Suite, ...]
    judge: Subject | None = None

    @property
    def versions(self) -> tuple[Subject, ...]:
        """The subject, and the baseline if there is one."""
        return (self.subject,) if self.baseline is None else (self.subject, self.baseline)


async def prepare(gateway: Gateway, options: Options, suites: Sequence[Suite]) -> Evaluation:
    """Find what is evaluated.

    Raises:
        NotFound: It is not deployed.
        InvalidInput: Subject and baseline are one version; no suite; a judge is needed.
    """
    check_suites(suites)
    subject = await find_subject(gateway, options.subject)
    baseline = await find_subject(gateway, options.against) if options.against else None
    if baseline is not None and baseline.digest == subject.digest:
        raise InvalidInput(
            f"{options.subject} and {options.against} are one version, {subject.reference}", param="against"
        )
    judge = await find_subject(gateway, options.judge) if options.judge is not None else None
    if judge is None and any("judge" in suite.scorers for suite in suites):
        raise InvalidInput("the scorer judge needs a deployment that judges: --judge NAME", param="judge")
    return Evaluation(options, subject, baseline, tuple(suites), judge)


async def measure(
    gateway: Gateway,
    evaluation: Evaluation,
    finished: Finished,
    *,
    on_progress: OnProgress,
    stop: asyncio.Event | None = None,
) -> list[ReportItem] | None:
    """Score all items; None when `stop` was set before the end.

    Raises:
        Conflict: A deployment serves another version by now.
    """
    options, judge = evaluation.options, evaluation.judge
    tasks = [
        task
        for subject in evaluation.versions
        for task in tasks_of(Model(gateway, subject, judge.deployment if judge else None), evaluation.suites)
    ]
    on_progress(len(finished.scores), len(tasks))

    def on_score(key: Key, score: ItemScore) -> None:
        finished.add(key, score)
        on_progress(len(finished.scores), len(tasks))

    complete = await run(tasks, dict(finished.scores), on_score, typos=options.typos, stop=stop)
    if not complete:
        return None
    for subject in (*evaluation.versions, *([judge] if judge else ())):
        await check_still_served(gateway, subject)
    return report_items(evaluation, finished)


def report_items(evaluation: Evaluation, finished: Finished) -> list[ReportItem]:
    """The lines of the report, in the order of suites and items."""
    baseline = evaluation.baseline
    return [
        ReportItem(
            suite=suite.reference,
            item=item.id,
            scorer=scorer_of(item, suite.reference).name,
            group=item.group,
            category=item.labels.get("category", ""),
            subject=finished.scores[evaluation.subject.digest, suite.reference, item.id],
            baseline=finished.scores[baseline.digest, suite.reference, item.id] if baseline else None,
        )
        for suite in evaluation.suites
        for item in suite.items
    ]
