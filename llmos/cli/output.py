"""What commands print: tables for people, JSON for programs, progress on standard error.

Text is printed as it is: nothing in a name, an error or a model's message is taken for markup or an emoji's name, and
control characters are shown escaped. What is styled is a `Text`.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import orjson
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from llmos.progress import Progress as Report
from shared import printable as characters

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def settle_streams() -> None:
    """Let a character that the terminal's encoding lacks be replaced, and no longer end the command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # both are text streams of a process


def printable(text: object) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    return characters.printable(str(text))


def say(text: object, *, style: str = "") -> None:
    """One line on standard output, whole however narrow the terminal."""
    console.print(Text(printable(text), style=style))


def write(text: str) -> None:
    """A piece of a text of several lines on standard output, at once."""
    print(characters.printable(text.replace("\r\n", "\n"), keep="\n\t"), end="", flush=True)


def write_document(text: str) -> None:
    """JSON or TOML of one or several lines on standard output, at once; it means what `text` means."""
    print(characters.printable_document(text), end="", flush=True)


def note(text: object, *, style: str = "") -> None:
    """One line on standard error, whole however narrow the terminal."""
    errors.print(Text(printable(text), style=style))


def print_error(message: str) -> None:
    """What ended the command, on one line."""
    errors.print(Text.assemble(("error:", "red"), " ", printable(" ".join(message.split()))))


def print_json(value: object) -> None:
    """One JSON document on standard output; in ASCII where the output is not UTF-8."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if sys.stdout.encoding.lower().replace("-", "") == "utf8":
        write_document(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
    else:
        write_document(json.dumps(value, indent=2) + "\n")


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is awaited; yields what changes it."""
    with errors.status(Text(printable(text))) as line:
        yield lambda newest: line.update(Text(printable(newest)))


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
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table, soft_wrap=False)


def print_tree(tree: Tree) -> None:
    """A tree, each line whole however narrow the terminal."""
    Console(highlight=False, markup=False, emoji=False, width=max(console.width, 240)).print(tree)


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
        TextColumn("{task.description:>12}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[bytes]}", markup=False),
    )
    with Progress(*columns, console=errors) as progress:
        tasks: dict[str, TaskID] = {}

        def report(step: str, fraction: float, total: int = 0, /) -> None:
            if step not in tasks:
                for done in tasks.values():
                    progress.update(done, completed=1.0)
                tasks[step] = progress.add_task(step, total=1.0, bytes="")
            of = f"{size(fraction * total)} of {size(total)}" if total else ""
            progress.update(tasks[step], completed=fraction, bytes=of)

        yield report
