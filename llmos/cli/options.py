"""Options that every command takes."""

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", envvar="LLMOS_HOME", help="Folder of the embedded system. [default: ~/.llmos]", show_default=False
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="LLMOS_URL", help="Gateway to talk to. [default: the home's system]", show_default=False
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="LLMOS_API_KEY", help="API key. [default: the home's admin key]", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
