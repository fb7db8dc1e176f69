"""The command line. One file per group of commands."""

import logging
import sys

import structlog
import typer
from rich.markup import escape

from llmos.cli import (
    chat,
    data,
    deployments,
    embed,
    evaluate,
    jobs,
    keys,
    models,
    nodes,
    observe,
    reports,
    suites,
    system,
)
from llmos.cli.output import errors
from shared.errors import LlmosError

app = typer.Typer(
    name="llmos",
    help="An operating system for your team's own language models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="model")
app.add_typer(nodes.app, name="node")
app.add_typer(keys.app, name="key")
app.add_typer(jobs.app, name="job")
app.add_typer(data.app, name="data")
app.add_typer(suites.app, name="suite")
app.add_typer(reports.app, name="report")
for group in (system, deployments, chat, embed, evaluate, jobs, observe):
    group.register(app)


def main() -> None:
    """Run a command. Exit code 1 for errors, each one line; 2 for wrong usage; 130 after Ctrl-C."""
    # Standard output is for answers: what the parts log here is for the person only when something is wrong.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        typer.main.get_command(app)()
    except LlmosError as error:
        errors.print(f"[red]error:[/red] {escape(error.message)}", soft_wrap=True, markup=True)
        sys.exit(1)
