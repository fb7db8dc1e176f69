"""What commands print: tables for people, JSON for programs, progress on standard error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from llmos.importing import Progress as Report

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table, or the sentence `empty`, which says what to do."""
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # The first column is what people copy into the next command: it is never broken.
        table.add_column(column, overflow="fold", no_wrap=column is columns[0])
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)


def print_tree(tree: Tree) -> None:
    """A tree, each line whole however narrow the terminal."""
    Console(highlight=False, width=max(console.width, 240)).print(tree)


def size(count: float) -> str:
    """`93.8 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


@contextmanager
def progress_bars() -> Iterator[Report]:
    """A bar per named step on standard error."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        tasks: dict[str, TaskID] = {}

        def report(step: str, fraction: float) -> None:
            if step not in tasks:
                for done in tasks.values():
                    progress.update(done, completed=1.0)
                tasks[step] = progress.add_task(step, total=1.0)
            progress.update(tasks[step], completed=fraction)

        yield report
