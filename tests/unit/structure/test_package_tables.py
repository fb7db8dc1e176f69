"""A package whose docstring lists its modules lists all of them, and none that is gone."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_ROW = re.compile(r"^\| (`[^|]+) \|", re.MULTILINE)


def table(package: Path) -> set[str]:
    """The modules and folders that the docstring of a package lists in its tables."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return {name.strip("/") for row in _ROW.findall(text) for name in re.findall(r"`([\w/]+)`", row)}


def contents(package: Path) -> set[str]:
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    return modules | {path.parent.name for path in package.glob("*/__init__.py")}


PACKAGES = [
    path.parent
    for folder in ("devtools", "llmos", "operators", "services", "shared")
    for path in sorted((ROOT / folder).rglob("__init__.py"))
    if table(path.parent) & contents(path.parent)
]


def test_packages_have_tables():
    assert ROOT / "services/inference/engine" in PACKAGES
    assert len(PACKAGES) > 5


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_a_table_is_complete_and_true(package):
    assert table(package) == contents(package)
