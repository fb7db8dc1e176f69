"""Names use the words of docs/glossary.md, and none that it retires."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = ("benchmarks", "deploy", "devtools", "llmos", "operators", "services", "shared", "tests")
GLOSSARY = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def retired() -> dict[str, str]:
    """Retired word -> the words that replace it."""
    table = GLOSSARY.split("## Retired words")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)[1:]
    return {word.strip(): now for words, now in rows for word in words.split(",")}


RETIRED = retired()


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that a module defines, assigns or takes as an argument."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def offence(name: str) -> str | None:
    """The retired word in a name."""
    if name in RETIRED:
        return name
    return next((word for word in map(str.lower, _WORD.findall(name)) if word in RETIRED), None)


@pytest.mark.parametrize("folder", CODE)
def test_no_name_has_a_retired_word(folder: str) -> None:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT)
        defined = [(1, path.stem.removeprefix("test_")), *names(ast.parse(path.read_text(encoding="utf-8")))]
        found += [
            f"{place}:{line}: {name}: {word!r} is now {RETIRED[word]!r}"
            for line, name in defined
            if not name.startswith("test_") and (word := offence(name))
        ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("name", "word"),
    [("is_parked", "parked"), ("Keeper", "keeper"), ("_untold", "untold"), ("parking", None), ("Answer", "Answer")],
)
def test_a_retired_word_is_found_as_a_part_of_a_name(name: str, word: str | None) -> None:
    assert offence(name) == word


def test_terms_stand_in_the_glossary_once() -> None:
    terms = re.findall(r"^\| ([a-z][^|]*?) \|", GLOSSARY.split("## Retired words")[0], re.MULTILINE)
    terms = [term for term in terms if term != "term"]
    assert len(terms) > 40
    assert len(terms) == len(set(terms))
