"""`llmos report …`: what evaluations measured."""

from collections.abc import Iterator
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, say
from llmos.config import Target
from shared.contracts.registry import ReportVersion
from shared.contracts.report import Difference, ReportManifest, Score

app = typer.Typer(no_args_is_help=True, help="What evaluations measured.")


@app.command("list", epilog="Example: llmos report list")
def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """All reports, by name."""
    with Target.resolve(home, url, api_key).client() as client:
        records = client.reports.list().reports
        versions = [
            client.reports.version(f"{record.name}:{entry.version}")
            for record in records
            for entry in record.versions
        ]
    if json:
        print_json([version.model_dump(mode="json") for version in versions])
        return
    rows = [
        (
            version.reference,
            version.manifest.subject_name,
            version.manifest.baseline_name or "",
            ", ".join(dict.fromkeys(score.suite for score in version.manifest.scores)),
            f"{version.manifest.measured_at:%Y-%m-%d %H:%M}",
        )
        for version in versions
    ]
    print_table(
        ("REPORT", "VERSION", "AGAINST", "SUITES", "MEASURED"),
        rows,
        empty="No reports yet. Try: llmos evaluate --help",
    )


@app.command(epilog="Example: llmos report show helper:1")
def show(
    reference: Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")],
    categories: Annotated[bool, typer.Option("--categories", help="Also the figures of each category.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """The figures of a report, and what they cannot show."""
    with Target.resolve(home, url, api_key).client() as client:
        version = client.reports.version(reference)
    print_report(version, json=json, categories=categories)


def print_report(version: ReportVersion, *, json: bool, categories: bool = False) -> None:
    """A table with ± and n, then the notes."""
    if json:
        print_json(version)
        return
    manifest = version.manifest
    against = f" against {manifest.baseline_name}" if manifest.baseline_name else ""
    say(
        f"{version.reference}: {manifest.subject_name}{against}, {manifest.measured_at:%Y-%m-%d %H:%M %Z}",
        style="bold",
    )
    columns = ["SUITE", "METRIC", manifest.subject_name, "N"]
    if manifest.baseline_name:
        columns += [manifest.baseline_name, "DIFFERENCE (95 %)"]
    print_table(columns, list(_rows(manifest, categories=categories)), empty="nothing was measured")
    if any(not score.higher_is_better for score in manifest.scores):
        say("  ↓ lower is better")
    for note in manifest.notes:
        say(f"  note: {note}")


def _rows(manifest: ReportManifest, *, categories: bool) -> Iterator[tuple[object, ...]]:
    baseline = {(score.suite, score.metric): score for score in manifest.baseline_scores}
    differences = {(one.suite, one.metric): one for one in manifest.differences}
    for score in manifest.scores:
        if "/" in score.metric and not categories:
            continue
        key = score.suite, score.metric
        arrow = "" if score.higher_is_better else " ↓"
        clusters = f" in {score.clusters} groups" if score.clusters else ""
        row: tuple[object, ...] = (score.suite, f"{score.metric}{arrow}", value(score), f"{score.n}{clusters}")
        if manifest.baseline_name:
            row += (value(baseline[key]) if key in baseline else "", _difference(differences.get(key)))
        yield row


def value(score: Score) -> str:
    """`0.612 ± 0.031`; at the ends of a rate, where the standard error is 0, its interval."""
    digits = _digits(score.value)
    if score.stderr is None:
        return f"{score.value:.{digits}f}"
    if score.stderr == 0 and score.low is not None and score.high is not None and score.low < score.high:
        return f"{score.value:.{digits}f} ({score.low:.{digits}f} to {score.high:.{digits}f})"
    return f"{score.value:.{digits}f} ± {score.stderr:.{digits}f}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    digits = _digits(difference.value)
    return f"{difference.value:+.{digits}f} ({difference.low:+.{digits}f} to {difference.high:+.{digits}f})"


def _digits(number: float) -> int:
    return 1 if abs(number) >= 10 else 3
