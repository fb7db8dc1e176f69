"""The commands that a page of the documentation shows."""

import shlex
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def commands(page: str) -> list[list[str]]:
    """The arguments of each `llmos …` in the code blocks of `docs/PAGE`, in order, without comments."""
    found, inside = [], False
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```"  # a block of another language has its name there
            continue
        if inside and line.startswith("llmos "):
            found.append(shlex.split(line, comments=True)[1:])
    return found
