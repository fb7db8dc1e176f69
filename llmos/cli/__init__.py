"""The command line. One file per group of commands."""

import logging
import sys
from typing import Annotated

import structlog
import typer

from llmos.cli import (
    alerts,
    apply,
    bus,
    chat,
    data,
    deployments,
    embed,
    evaluate,
    events,
    jobs,
    keys,
    learn,
    models,
    nodes,
    observe,
    reports,
    state,
    suites,
    system,
    tools,
    traces,
    train,
    tune,
    verify,
)
from llmos.cli.output import print_error, say, settle_streams
from shared.contracts.state import FORMAT
from shared.errors import InvalidInput, LlmosError
from shared.version import llmos_version

app = typer.Typer(
    name="llmos",
    help="An operating system for your team's own language models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
alerts.register(app)
events.register(app)
verify.register(models.app)
app.add_typer(models.app, name="model")
app.add_typer(tools.app, name="tool")
app.add_typer(nodes.app, name="node")
app.add_typer(keys.app, name="key")
app.add_typer(bus.app, name="bus")
app.add_typer(jobs.app, name="job")
app.add_typer(data.app, name="data")
app.add_typer(suites.app, name="suite")
app.add_typer(reports.app, name="report")
for group in (
    system,
    state,
    deployments,
    apply,
    chat,
    embed,
    train,
    tune,
    evaluate,
    jobs,
    observe,
    traces,
    learn,
):
    group.register(app)


def _print_version(requested: bool) -> None:
    if requested:
        say(f"llmos {llmos_version()}, format {FORMAT}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and end."),
    ] = False,
) -> None:
    """An operating system for your team's own language models."""


def main() -> None:
    """Run a command. Exit code 1 for errors, each one line; 2 for wrong usage; 130 after Ctrl-C."""
    # Standard output is for answers: what the parts log here is for the person only when something is wrong.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settle_streams()
    try:
        _check_arguments(sys.argv[1:])
        typer.main.get_command(app)()
    except LlmosError as error:
        print_error(error.message)
        sys.exit(1)
    except OSError as error:  # a folder that can't be written, a full disk: the system's words say what is wrong
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)


def _check_arguments(arguments: list[str]) -> None:
    """Refuse bytes that are no text: Python hands them on as halves of surrogate pairs, which nothing can send."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the argument {argument[:80]!r} is not text in this encoding") from error
