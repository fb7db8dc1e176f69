"""A report: what was measured, as a manifest with the items beside it."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from devtools.evaluate.evaluation import Evaluation
from devtools.evaluate.judge_notes import judge_notes
from devtools.evaluate.scorers.catalogue import SCORERS
from devtools.evaluate.scores import differences, scores
from shared.contracts.manifest import ManifestFile
from shared.contracts.report import ReportItem, ReportManifest
from shared.errors import CorruptFile

ITEMS_FILE = "items.jsonl"


def write_report(
    folder: Path, evaluation: Evaluation, items: Sequence[ReportItem], *, at: datetime, job: str | None = None
) -> ReportManifest:
    """Write the items to `folder`; the manifest has the figures."""
    data = b"".join(item.encode() + b"\n" for item in items)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ITEMS_FILE).write_bytes(data)
    baseline = evaluation.baseline
    return ReportManifest(
        files=(ManifestFile(path=ITEMS_FILE, digest=hashlib.sha256(data).hexdigest(), size=len(data)),),
        subject=evaluation.subject.digest,
        subject_name=evaluation.subject.reference,
        baseline=baseline.digest if baseline else None,
        baseline_name=baseline.reference if baseline else None,
        suites=tuple(suite.digest for suite in evaluation.suites),
        scores=scores(items),
        baseline_scores=scores(items, of_baseline=True) if baseline else (),
        differences=differences(items) if baseline else (),
        notes=tuple(notes(evaluation, items)),
        job=job,
        code=f"llmos {version('llmos')}",
        measured_at=at,
    )


def read_items(path: Path) -> list[ReportItem]:
    """The items of a report; raises CorruptFile with the line."""
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(ReportItem.decode(line))
        except ValidationError as error:
            raise CorruptFile(f"{path.name}, line {number}: is no item of a report: {error}") from error
    return found


def notes(evaluation: Evaluation, items: Sequence[ReportItem]) -> Iterator[str]:
    """What the figures cannot show, and what was left out."""
    for suite in evaluation.suites:
        if len(suite.items) < suite.total:
            yield f"{suite.reference}: {len(suite.items)} of {suite.total} items were asked."
        for subject in evaluation.versions:
            mine = [
                item.subject if subject is evaluation.subject else item.baseline
                for item in items
                if item.suite == suite.reference
            ]
            left_out = [score.left_out for score in mine if score is not None and score.left_out]
            if left_out:
                yield (
                    f"{suite.reference}: {len(left_out)} items could not be put to {subject.reference} and are left"
                    f" out: {left_out[0]}"
                )
    for name in sorted({item.scorer for item in items}):
        if fault := SCORERS[name].fault:
            suites = ", ".join(dict.fromkeys(item.suite for item in items if item.scorer == name))
            yield f"{suites} ({name}): {fault}"
    yield from judge_notes(evaluation, items)
    if evaluation.options.typos:
        yield f"Figures with .typos: {evaluation.options.typos:.0%} of the letters of each prompt have typing errors."
