"""A version of a report: what an evaluation suite measured for a version of a model."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.contracts.base import Contract
from shared.contracts.manifest import Digest, FileList, ManifestFile


class Score(Contract):
    """One figure with its uncertainty."""

    suite: str
    """`name:version` of the suite's dataset."""
    metric: str
    """`exact_match`, `bleu`, `perplexity`, …"""
    value: float
    stderr: float | None = Field(default=None, ge=0)
    """Standard error of `value`, clustered by the items' groups; None where there is none."""
    n: int = Field(ge=0)
    """Items."""
    clusters: int = Field(default=0, ge=0)
    """Groups of items; 0: each item is its own."""
    higher_is_better: bool = True
    low: float | None = None
    """Lower end of the 95 % interval; None where there is none."""
    high: float | None = None


class Difference(Contract):
    """Subject minus baseline on the same items."""

    suite: str
    metric: str
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    n: int = Field(ge=0)


class ItemScore(Contract):
    """What one version answered to one item, and what that is worth."""

    answer: str = ""
    values: dict[str, float] = Field(default_factory=dict)
    """By metric, of those that are means over items."""
    sums: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """By metric, of those that are computed from sums over items, such as BLEU: this item's part of each sum."""
    loglikelihoods: tuple[float, ...] = ()
    """Of each choice: its natural logarithm."""
    left_out: str = ""
    """Why the item could not be scored."""


class ReportItem(Contract):
    """A line of `items.jsonl`."""

    suite: str
    """`name:version` of the suite's dataset."""
    item: str
    """Id of the row."""
    scorer: str
    group: str = ""
    category: str = ""
    subject: ItemScore
    baseline: ItemScore | None = None


class ReportManifest(FileList):
    """The JSON that describes a report. Immutable; its SHA-256 names it.

    `files` has `items.jsonl`: a `ReportItem` for each item.
    """

    schema_version: Literal[1] = 1
    subject: Digest
    """Of the manifest of the version that was evaluated."""
    subject_name: str
    """`name:version`."""
    baseline: Digest | None = None
    baseline_name: str | None = None
    suites: tuple[Digest, ...]
    """Of the manifests of the suites."""
    scores: tuple[Score, ...]
    baseline_scores: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    """What a suite cannot show, and what was left out."""
    job: str | None = None
    code: str = ""
    measured_at: datetime


Score.EXAMPLE = Score(suite="tickets:1", metric="exact_match", value=0.958, stderr=0.041, n=24)
Difference.EXAMPLE = Difference(suite="tickets:1", metric="exact_match", value=0.958, low=0.87, high=1.0, n=24)
ItemScore.EXAMPLE = ItemScore(answer="BILL-1", values={"exact_match": 1.0})
ReportItem.EXAMPLE = ReportItem(
    suite="tickets:1", item="9f2c41d07ab3e5f89f2c41d07ab3e5f8", scorer="exact_match", subject=ItemScore.EXAMPLE
)
ReportManifest.EXAMPLE = ReportManifest(
    files=(ManifestFile(path="items.jsonl", digest="ab" * 32, size=4096),),
    subject="cd" * 32,
    subject_name="helper:1",
    baseline="ef" * 32,
    baseline_name="smollm2:1",
    suites=("01" * 32,),
    scores=(Score.EXAMPLE,),
    baseline_scores=(Score(suite="tickets:1", metric="exact_match", value=0.0, stderr=0.0, n=24),),
    differences=(Difference.EXAMPLE,),
    measured_at=datetime.fromisoformat("2026-11-29T12:00:00+00:00"),
)
