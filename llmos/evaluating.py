"""Evaluate from here: suites from the registry, answers from the gateway, a report into the registry."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.client import Client
from llmos.progress import Progress
from shared.contracts.manifest import NAME_RULE, is_name
from shared.contracts.registry import ModelVersion, ReportVersion
from shared.contracts.report import ReportManifest
from shared.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from devtools.evaluate.gate import Verdict
    from devtools.evaluate.gated import Report
    from devtools.evaluate.options import Options
    from devtools.evaluate.policy import Policy
    from devtools.evaluate.subject import Subject
    from devtools.evaluate.suites import Suite


def find(client: Client, *references: str) -> "list[Subject]":
    """The versions that references mean, which deployments serve."""
    from devtools.evaluate.gateway import Gateway  # noqa: PLC0415  # other commands start without it
    from devtools.evaluate.subject import find_subject  # noqa: PLC0415

    async def all_of_them() -> "list[Subject]":
        async with Gateway(client.url, client.api_key) as gateway:
            return [await find_subject(gateway, reference) for reference in references]

    return asyncio.run(all_of_them())


def fetch_suites(client: Client, references: Sequence[str], folder: Path, n: int | None) -> "list[Suite]":
    """The suites, with their files in `folder`."""
    from devtools.evaluate.suites import read_suite  # noqa: PLC0415

    found = []
    for reference in references:
        suite = client.datasets.version(reference)
        target = folder / f"{suite.name}-{suite.version}"
        client.datasets.download(suite.manifest, target)
        found.append(read_suite(suite.reference, suite.digest, suite.manifest, target, n=n))
    return found


def evaluate_here(
    client: Client,
    options: "Options",
    suites: Sequence[str],
    *,
    name: str | None,
    folder: Path,
    progress: Progress,
) -> ReportVersion:
    """Put suites to what is served, and publish the report.

    Args:
        client: Of the gateway.
        options: What is evaluated.
        suites: References of datasets.
        name: Of the report; None: that of the subject's model.
        folder: For files on the way.
        progress: Called with the step and how much of it is done.
    """
    from devtools.evaluate.evaluation import measure, prepare  # noqa: PLC0415
    from devtools.evaluate.finished import Finished  # noqa: PLC0415
    from devtools.evaluate.gateway import Gateway  # noqa: PLC0415
    from devtools.evaluate.report import write_report  # noqa: PLC0415

    if name is not None:
        check_report_name(name)
    fetched = fetch_suites(client, suites, folder, options.n)

    async def work() -> "tuple[str, ReportManifest]":
        async with Gateway(client.url, client.api_key) as gateway:
            evaluation = await prepare(gateway, options, fetched)
            with Finished(folder / "finished.jsonl") as finished:
                items = await measure(
                    gateway,
                    evaluation,
                    finished,
                    on_progress=lambda done, total: progress("evaluate", done / max(1, total)),
                )
        assert items is not None
        manifest = write_report(folder, evaluation, items, at=datetime.now(UTC))
        return evaluation.subject.reference.rsplit(":", 1)[0], manifest

    model, manifest = asyncio.run(work())
    client.reports.upload(manifest, folder)
    return client.reports.create(name or model, manifest)


def version_of(client: Client, reference: str) -> ModelVersion:
    """The version that a deployment of this name serves, or that the reference of a model means."""
    for status in client.deployments().deployments:
        if status.deployment.name == reference:
            return client.models.version(f"{status.deployment.model}:{status.deployment.version}")
    return client.models.version(reference)


def gate(
    client: Client,
    reference: str,
    against: str,
    reports: Sequence[str],
    *,
    policy: "Policy",
    folder: Path,
) -> "list[Verdict]":
    """Verdicts on suites of the reports, those that the policy asks for.

    Without any report, the newest one that has both versions is taken.
    """
    from devtools.evaluate.gated import joined, verdicts  # noqa: PLC0415

    subject, baseline = version_of(client, reference), version_of(client, against)
    if subject.digest == baseline.digest:
        raise InvalidInput(f"{reference} and {against} are one version, {subject.reference}", param="against")
    found = [_report(client, reference, folder) for reference in reports]
    if not found:
        found = [_report(client, _newest(client, subject, baseline), folder)]
    return verdicts(joined(found, subject.digest, baseline.digest), policy)


def check_report_name(name: str) -> None:
    """Raise InvalidInput unless `name` can be the name of a report."""
    if not is_name(name):
        raise InvalidInput(f"--name {name!r}: expected {NAME_RULE}", param="name")


def _report(client: Client, reference: str, folder: Path) -> "Report":
    from devtools.evaluate.report import ITEMS_FILE, read_items  # noqa: PLC0415

    version = client.reports.version(reference)
    target = folder / f"report-{version.name}-{version.version}"
    client.reports.download(version.manifest, target)
    return version.manifest, read_items(target / ITEMS_FILE)


def _newest(client: Client, subject: ModelVersion, baseline: ModelVersion) -> str:
    """The newest report of both versions; raises NotFound."""
    entries = [
        (entry.created_at, f"{record.name}:{entry.version}")
        for record in client.reports.list().reports
        for entry in record.versions
    ]
    for _, reference in sorted(entries, reverse=True):
        manifest = client.reports.version(reference).manifest
        if manifest.subject == subject.digest and manifest.baseline == baseline.digest:
            return reference
    raise NotFound(
        f"no report compares {subject.reference} with {baseline.reference}; make one with --suite NAME, or with"
        f" 'llmos evaluate {subject.reference} --against {baseline.reference} --suite NAME'",
        param="report",
    )
