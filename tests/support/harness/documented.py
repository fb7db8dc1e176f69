"""The commands that a page of the documentation shows."""

import shlex
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: Path) -> list[tuple[str, list[str]]]:
    """The code blocks of a page, in order: the language, "" for none, and the lines."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append((line.removeprefix("```"), []))
        elif inside:
            found[-1][1].append(line)
    return found


def commands(page: str) -> list[list[str]]:
    """The arguments of each `llmos …` in the blocks of `docs/PAGE` that name no language, without comments."""
    lines = [line for language, block in blocks(DOCS / page) if not language for line in block]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("llmos ")]
