"""`llmos data …`: rows become versions of datasets; check, prepare, look at them."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import console, print_json, print_table, progress_bars, size
from llmos.config import Target
from llmos.dataset_versions import import_rows
from shared.contracts.dataset import DatasetManifest, Finding

app = typer.Typer(no_args_is_help=True, help="Rows for training and evaluation: import, check, prepare, look at.")

ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")]


@app.command("import", epilog="Example: llmos data import chats.jsonl --name support")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON Lines (also .gz), JSON, CSV, Parquet, text or Markdown."),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the dataset; a new version is made each time.")],
    form: Annotated[
        str | None, typer.Option("--as", help="Form of the rows, where it is not detected: evaluation, alpaca, …")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out what can't be a row, instead of refusing the file.")
    ] = False,
    license_: Annotated[str | None, typer.Option("--license", help="Of the rows, for example CC-BY-4.0.")] = None,
    statement: Annotated[
        str | None, typer.Option("--statement", help="Who made the rows, when, with whose consent.")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option("--alias", help="Also point this alias at it.")] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Read rows from files, check them, upload them and make a new version."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, clean up as after Ctrl-C
    target = Target.resolve(home, url, api_key)
    with target.client() as client, progress_bars() as progress:
        version, imported = import_rows(
            client,
            sources,
            name,
            form=form,
            skip_broken=skip_broken,
            license=license_,
            statement=statement,
            aliases=tuple(alias or ()),
            journals=target.home.imports,
            progress=progress,
        )
    if json:
        print_json(version)
        return
    _line(f"{version.reference}  {summary(version.manifest)}  {version.digest[:12]}")
    for source in version.manifest.sources:
        _line(f"  {source.name}: {source.format}, {source.rows} rows")
    for file, keys in imported.ignored.items():
        named = ", ".join(f"{key} ({count})" for key, count in keys.most_common(8))
        _line(f"  {file}: keys that were not read: {named}")
    for defect in imported.skipped[:5]:
        _line(f"  left out: {defect}")
    if len(imported.skipped) > 5:
        _line(f"  left out: {len(imported.skipped) - 5} more")
    print_findings(version.manifest.findings)


@app.command("list", epilog="Example: llmos data list")
def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """All datasets with their versions and aliases."""
    with Target.resolve(home, url, api_key).client() as client:
        datasets = client.datasets.list().datasets
    if json:
        print_json([dataset.model_dump(mode="json") for dataset in datasets])
        return
    rows = [
        (
            f"{dataset.name}:{entry.version}",
            ", ".join(f"@{alias}" for alias, version in sorted(dataset.aliases.items()) if version == entry.version),
            size(entry.size),
            f"{entry.created_at:%Y-%m-%d %H:%M}",
        )
        for dataset in datasets
        for entry in dataset.versions
    ]
    print_table(
        ("DATASET", "ALIASES", "SIZE", "CREATED"),
        rows,
        empty="No datasets yet. Try: llmos data import FILE.jsonl --name NAME",
    )


@app.command(epilog="Example: llmos data show support:2")
def show(
    reference: ReferenceArgument,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """One version: rows, splits, sources, steps, findings, files."""
    with Target.resolve(home, url, api_key).client() as client:
        version = client.datasets.version(reference)
    if json:
        print_json(version)
        return
    manifest = version.manifest
    console.print(
        f"{version.reference}  {' '.join('@' + alias for alias in version.aliases)}", style="bold", markup=False
    )
    facts = {
        "digest": version.digest,
        "created": f"{version.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "rows": summary(manifest),
        "splits": ", ".join(f"{split} {rows}" for split, rows in manifest.splits.items()),
        "tokens": ", ".join(f"{count} by tokenizer {digest[:12]}" for digest, count in manifest.tokens.items()),
        "license": manifest.license or "not stated",
        "statement": manifest.statement or "",
        "parents": ", ".join(digest[:12] for digest in manifest.parents),
    }
    for name, fact in facts.items():
        if fact:
            _line(f"  {name:<9} {fact}")
    for source in manifest.sources:
        _line(f"  source    {source.name}: {source.format}, {source.rows} rows, {source.digest[:12]}")
    for step in manifest.steps:
        given = " ".join(f"{key}={value}" for key, value in step.parameters.items())
        changed = f", {step.changed} changed" if step.changed else ""
        _line(f"  step      {step.name} {given}: {step.rows_in} -> {step.rows_out} rows{changed}")
    print_findings(manifest.findings)
    for file in manifest.files:
        _line(f"  {file.path:<24} {size(file.size):>10}  {file.digest[:12]}")


def summary(manifest: DatasetManifest) -> str:
    """`1,200 turns, 1.4 MiB`."""
    names = {"text": "texts", "evaluation": "items"}
    return f"{manifest.row_count:,} {names.get(manifest.rows, manifest.rows)}, {size(manifest.size)}"


def print_findings(findings: "tuple[Finding, ...]") -> None:
    """A line for each kind."""
    for finding in findings:
        _line(f"  found     {finding.kind}: {finding.count}  {', '.join(finding.examples)}")


def _line(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
