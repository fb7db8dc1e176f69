"""Every `llmos …` in the code blocks of the documentation is one that the command line takes.

Most pages are also typed on a running system (`tests/e2e`); this finds an option that was renamed on any of them.
"""

import re
import shlex
from pathlib import Path

import pytest
import typer

from llmos.cli import app
from tests.support.harness.compose import ROOT
from tests.support.harness.documented import blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = re.compile(r"\s(?:\|\||\||>|<|&&|2>)\s.*")
"""Where another program, or a file, follows."""


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `llmos …` in a block, whatever the block's language."""
    lines = [line.removeprefix("llmos ") for _, block in blocks(page) for line in block if line.startswith("llmos ")]
    return [shlex.split(SHELL.sub("", line), comments=True) for line in lines]


UsageError = typer.BadParameter.__base__
"""Typer has its own copy of click, and does not export this."""
WITH_COMMANDS = [page for page in PAGES if commands(page)]


def parse(arguments: list[str]) -> None:
    """Read the arguments as the command line does, and run nothing."""
    command, name = typer.main.get_command(app), "llmos"
    context = None
    while True:
        context = command.make_context(name, arguments, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, found, arguments = command.resolve_command(context, rest)
        assert found is not None
        command = found


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_one_that_there_is(page):
    for arguments in commands(page):
        try:
            parse(arguments)
        except typer.Exit:  # --help
            continue
        except UsageError as error:
            pytest.fail(f"{page.name}: llmos {shlex.join(arguments)}: {error.format_message()}")


@pytest.mark.parametrize("wrong", ["evaluat smollm2", "evaluate smollm2 --suit team", "evaluate", "job sho x"])
def test_the_check_sees_what_is_wrong(wrong):
    with pytest.raises(UsageError):
        parse(shlex.split(wrong))


def test_the_pages_of_the_development_tools_are_among_those_that_are_read():
    assert {"data.md", "evaluation.md", "jobs.md", "tuning.md"} <= {page.name for page in WITH_COMMANDS}
