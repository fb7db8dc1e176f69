"""The command line of a search: that of a training (`devtools.train.command`), and a file with the table `[search]`.

Events go to standard output as JSON lines; exit codes are those of a training.
"""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

from devtools.train.command import DONE, PAUSED, StopSignals, exit_code, options_of, parser_of, printer
from devtools.train.progress import Failed
from devtools.train.recipe import read_recipe
from devtools.train.search.search import Search, search
from devtools.train.search.space import TABLE, parse_search
from shared.errors import InvalidInput, LlmosError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = parser_of()
    parser.prog = "python -m devtools.train.search"
    parser.description = "Search keys of a recipe for the lowest loss on held-out rows; the same command goes on."
    parser.add_argument(
        "--search", type=Path, required=True, metavar="SEARCH.toml", help="trials and over, of the table [search]"
    )
    given = parser.parse_args(arguments)
    stop, emit = StopSignals(), printer()
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InvalidInput(
                "a search runs in one process; its trainings use all of its threads", param="processes"
            )
        recipe = read_recipe(given.recipe, given.set).model_dump(mode="json", exclude_unset=True)
        table, space = parse_search(_table(given.search), recipe)
        done = search(
            Search(recipe, table, space), options_of(given), on_event=emit, asked_to_stop=lambda: stop.asked
        )
    except LlmosError as error:
        emit(Failed(error.code, error.message, error.param))
        return exit_code(error)
    return PAUSED if done is None else DONE


def _table(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} can't be read as TOML: {error}", param=TABLE) from None
    found: dict[str, object] = values.get(TABLE, values)
    return found
