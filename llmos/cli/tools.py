"""`llmos tool …`: tools that have an environment of their own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from devtools.optimum.environment import PINS, OptimumEnvironment
from llmos.cli.options import HomeOption, JsonOption
from llmos.cli.output import print_json, say
from llmos.config import Target
from shared.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Install, list and remove tools with an environment of their own.")

_Tool = Annotated[Literal["optimum"], typer.Argument(help="optimum: exports T5, BART, Marian and Whisper.")]


@app.command(epilog="Example: llmos tool install optimum --extra-index-url https://download.pytorch.org/whl/cpu")
def install(
    tool: _Tool,
    extra_index_url: Annotated[
        str | None,
        typer.Option(help="A package index beside pip's own; PyTorch's of builds for CPUs saves several GB."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Make the tool's environment with pip, in the home folder; replaces one of other versions."""
    environment = _environment(home, tool)
    if environment.installed:
        say(f"{tool} is installed in {environment.root}")
        return
    environment.install(say, extra_index=extra_index_url)
    say(f"{tool} is installed in {environment.root}; next: llmos model import DIR --with {tool} --name NAME")


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """The tools, their versions and where they are installed."""
    environment = _environment(home, "optimum")
    if json:
        folder = str(environment.root) if environment.installed else None
        print_json([{"name": "optimum", "versions": list(PINS), "folder": folder}])
        return
    state = str(environment.root) if environment.installed else "not installed: llmos tool install optimum"
    say(f"optimum  {' '.join(PINS)}  {state}")


@app.command()
def remove(tool: _Tool, home: HomeOption = None) -> None:
    """Delete the tool's environment; imported models go on without it."""
    environment = _environment(home, tool)
    if not environment.remove():
        raise NotFound(f"{tool} is not installed in {environment.root}", param="tool")
    say(f"{tool} removed")


def _environment(home: Path | None, tool: str) -> OptimumEnvironment:
    return OptimumEnvironment(Target.resolve(home, None, None).home.tool(tool))
