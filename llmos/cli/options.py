"""Options that every command takes."""

import re
from pathlib import Path
from typing import Annotated

import typer

from llmos.sizes import parse_size


def _folder(text: str) -> Path:
    """For typer. An empty path would be the current folder."""
    if not text:
        raise typer.BadParameter("it is empty; give a folder")
    return Path(text)


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        parser=_folder,
        metavar="PATH",
        envvar="LLMOS_HOME",
        help="Folder of the embedded system. \\[default: ~/.llmos]",
        show_default=False,
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="LLMOS_URL", help="Gateway to talk to. \\[default: the home's system]", show_default=False
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="LLMOS_API_KEY", help="API key. \\[default: the home's admin key]", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

ThreadsOption = Annotated[int, typer.Option(min=0, help="Threads reserved for it; 0: it shares those that are free.")]
PriorityOption = Annotated[int, typer.Option(min=-100, max=100, help="Higher runs first among jobs that wait.")]
RetriesOption = Annotated[int, typer.Option(min=0, max=100, help="Times that it is started again after a failure.")]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return.")]


def duration_option(text: str) -> float:
    """Seconds of `30d`, `12h`, `90m`, `45s` or `500ms`, for typer."""
    match = re.fullmatch(r"(\d{1,9})(d|h|m|s|ms)", text.strip().lower())
    if match is None or not int(match[1]):
        raise typer.BadParameter(f"{text!r} is not a time; expected for example 30d, 12h, 90m or 45s")
    return int(match[1]) * {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}[match[2]]


def size_option(text: str) -> int:
    """Bytes, for typer."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
