"""`llmos data sample|query|diff`: look at rows."""

import json as json_module
from typing import Annotated

import typer

from llmos.cli.data.options import ReferenceArgument
from llmos.cli.data.print import line, print_row
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, progress_bars
from llmos.config import Target
from llmos.dataset_versions import fetch, work_folder

app = typer.Typer()


@app.command(epilog="Example: llmos data sample support:2 -n 5")
def sample(
    reference: ReferenceArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="How many rows.")] = 5,
    seed: Annotated[int, typer.Option(help="Another one chooses other rows.")] = 0,
    split: Annotated[str | None, typer.Option(help="Of this split only: train, validation, test, items.")] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Some rows of a version, chosen at random."""
    from devtools.data import look  # noqa: PLC0415  # other commands start without it

    with Target.resolve(home, url, api_key).client() as client, work_folder() as folder:
        with progress_bars() as progress:
            version = fetch(client, reference, folder, progress)
        rows = look.sample(version.folder, version.manifest, count, seed=seed, split=split)
    if json:
        print_json([json_module.loads(row.canonical()) for row in rows])
        return
    for row in rows:
        print_row(row)


@app.command(epilog='Example: llmos data query support "select split, count(*) from rows group by split"')
def query(
    reference: ReferenceArgument,
    sql: Annotated[
        str, typer.Argument(help="One SELECT over the view rows: kind, messages, answer, group, split, …")
    ],
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Ask in SQL (DuckDB's). It reads the rows of the version and nothing else."""
    from devtools.data import query as queries  # noqa: PLC0415  # other commands start without it

    queries.check_sql(sql)
    with Target.resolve(home, url, api_key).client() as client, work_folder() as folder:
        with progress_bars() as progress:
            version = fetch(client, reference, folder, progress)
        result = queries.query(version.folder, [file.path for file in version.manifest.files], sql)
    if json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
        return
    print_table(
        [*result.columns], [["" if value is None else value for value in row] for row in result.rows], empty=""
    )


@app.command(epilog="Example: llmos data diff support:1 support:2")
def diff(
    before: Annotated[str, typer.Argument(metavar="REF")],
    after: Annotated[str, typer.Argument(metavar="REF")],
    count: Annotated[int, typer.Option("--count", "-n", min=0, max=1000, help="Rows to show of each kind.")] = 3,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Rows that only one of two versions has, and the steps between them."""
    from devtools.data import look  # noqa: PLC0415  # other commands start without it

    with Target.resolve(home, url, api_key).client() as client, work_folder() as folder:
        with progress_bars() as progress:
            old, new = (fetch(client, one, folder, progress) for one in (before, after))
        found = look.difference((old.folder, old.manifest), (new.folder, new.manifest), shown=count)
    if json:
        print_json(
            {
                "added": found.added,
                "removed": found.removed,
                "same": found.same,
                "first_added": [json_module.loads(row.canonical()) for row in found.first_added],
                "first_removed": [json_module.loads(row.canonical()) for row in found.first_removed],
            }
        )
        return
    line(f"{found.same} rows in both, {found.added} only in {after}, {found.removed} only in {before}")
    if old.digest in new.manifest.parents:
        for step in new.manifest.steps:
            line(f"  {step.name}: {step.rows_in} -> {step.rows_out} rows, {step.changed} changed")
    for title, rows in ((f"only in {after}", found.first_added), (f"only in {before}", found.first_removed)):
        if rows:
            line(f"{title}:", style="bold")
        for row in rows:
            print_row(row)
