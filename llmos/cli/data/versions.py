"""`llmos data import|list|show|alias|delete|export`: versions of datasets."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.data.options import ReferenceArgument
from llmos.cli.data.print import line, print_findings, summary
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, progress_bars, size
from llmos.cli.version_table import print_versions
from llmos.config import Target
from llmos.dataset_versions import export_rows, import_rows
from shared.errors import InvalidInput

app = typer.Typer()


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
    line(f"{version.reference}  {summary(version.manifest)}  {version.digest[:12]}")
    for source in version.manifest.sources:
        line(f"  {source.name}: {source.format}, {source.rows} rows")
    for file, keys in imported.ignored.items():
        named = ", ".join(f"{key} ({count})" for key, count in keys.most_common(8))
        line(f"  {file}: keys that were not read: {named}")
    for defect in imported.skipped:
        line(f"  left out: {defect}")
    if imported.skipped_count > len(imported.skipped):
        line(f"  left out: {imported.skipped_count - len(imported.skipped)} more")
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
    print_versions("dataset", datasets, empty="No datasets yet. Try: llmos data import FILE.jsonl --name NAME")


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
    line(f"{version.reference}  {' '.join('@' + alias for alias in version.aliases)}", style="bold")
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
            line(f"  {name:<9} {fact}")
    for source in manifest.sources:
        line(f"  source    {source.name}: {source.format}, {source.rows} rows, {source.digest[:12]}")
    for step in manifest.steps:
        given = " ".join(f"{key}={value}" for key, value in step.parameters.items())
        changed = f", {step.changed} changed" if step.changed else ""
        line(f"  step      {step.name} {given}: {step.rows_in} -> {step.rows_out} rows{changed}")
    print_findings(manifest.findings)
    for file in manifest.files:
        line(f"  {file.path:<24} {size(file.size):>10}  {file.digest[:12]}")


@app.command(epilog="Example: llmos data alias support@prod 2")
def alias(
    name: Annotated[str, typer.Argument(metavar="NAME@ALIAS")],
    version: Annotated[int | None, typer.Argument(help="Version number.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Point an alias at a version, or remove it."""
    dataset, at, label = name.partition("@")
    if not at or not label:
        raise InvalidInput(f"{name!r}: expected NAME@ALIAS, for example support@prod", param="name")
    if (version is None) != remove:
        raise InvalidInput("give either a version number or --remove", param="version")
    with Target.resolve(home, url, api_key).client() as client:
        if version is None:
            client.datasets.remove_alias(dataset, label)
            line(f"{name} removed")
        else:
            client.datasets.set_alias(dataset, label, version)
            line(f"{name} -> {dataset}:{version}")


@app.command(epilog="Example: llmos data delete support:1")
def delete(
    reference: Annotated[str, typer.Argument(metavar="REF", help="name:3 for one version, name for all of them.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Delete a version, or a dataset with all its versions."""
    with Target.resolve(home, url, api_key).client() as client:
        if not yes:
            typer.confirm(f"Delete {reference} for good?", abort=True)
        client.datasets.delete(reference)
    line(f"{reference} deleted")


@app.command(epilog="Example: llmos data export support:2 rows --format openai")
def export(
    reference: ReferenceArgument,
    folder: Annotated[Path, typer.Argument(help="Made if need be; files in it are replaced.")],
    format_: Annotated[
        str, typer.Option("--format", help="rows: as stored; openai: JSON Lines of OpenAI's forms; parquet.")
    ] = "rows",
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Write the rows of a version to a folder, a file or more for each split."""
    from devtools.data.export import FORMATS  # noqa: PLC0415

    if format_ not in FORMATS:
        raise InvalidInput(f"--format {format_}: expected one of {', '.join(FORMATS)}", param="format")
    with Target.resolve(home, url, api_key).client() as client, progress_bars() as progress:
        files = export_rows(client, reference, folder, format_, progress)
    for file in files:
        line(str(file))
