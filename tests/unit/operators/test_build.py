"""Installing LLMOS builds the library of operators, where the code that needs it is there (`setup.py`)."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import onnxruntime
import pytest

import operators
from shared.errors import InvalidInput
from tests.support.harness.compose import ROOT

LIBRARY = operators.LIBRARY.relative_to(ROOT)
CODE = ("shared", "operators", "services", "devtools", "llmos")


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of what is installed, without the library."""
    copy = tmp_path / "tree"
    for folder in CODE:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy2(ROOT / file, copy)
    return copy


@pytest.fixture
def no_compiler(tmp_path) -> Path:
    """A folder for PYTHONPATH in which the compiler is one that fails."""
    (tmp_path / "ziglang.py").write_text("import sys; sys.exit('attend.h:7:1: error: not today')")
    return tmp_path


def install(tree: Path, kind: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What pip asks setuptools to do: kind is `wheel` or `editable`; the result lies in the folder `dist`."""
    code = f"from setuptools.build_meta import build_{kind} as build; build('dist')"
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    (tree / "dist").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def wheel_of(tree: Path) -> Path:
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel


def make_current(library: Path) -> None:
    """A file that passes for a library that was built of the sources beside it."""
    library.write_bytes(b"built")


@pytest.mark.slow
def test_a_wheel_holds_a_library_that_a_session_loads(tree, tmp_path):
    done = install(tree, "wheel")
    assert done.returncode == 0, done.stderr
    wheel = wheel_of(tree)
    assert wheel.name.startswith("llmos-0.1.0-py3-none-")
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert not [name for name in packed.namelist() if name.endswith((".c", ".h"))]
        library = packed.extract(str(LIBRARY), tmp_path)
    onnxruntime.SessionOptions().register_custom_ops_library(library)


def test_an_editable_install_builds_into_the_tree_only_what_is_older_than_its_sources(tree, no_compiler):
    make_current(tree / LIBRARY)
    done = install(tree, "editable", no_compiler)
    assert done.returncode == 0, done.stderr
    assert (tree / LIBRARY).read_bytes() == b"built"
    os.utime(tree / LIBRARY, (0, 0))
    assert install(tree, "editable", no_compiler).returncode != 0


def test_a_wheel_takes_the_trees_library_if_that_is_newer_than_its_sources(tree, no_compiler):
    make_current(tree / LIBRARY)
    done = install(tree, "wheel", no_compiler)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheel_of(tree)) as packed:
        assert packed.read(str(LIBRARY)) == b"built"


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_install_fails_with_what_the_compiler_said(tree, no_compiler, kind):
    done = install(tree, kind, no_compiler)
    assert done.returncode != 0
    assert "error: the operators do not compile" in done.stderr
    assert "attend.h:7:1: error: not today" in done.stderr
    assert not (tree / LIBRARY).exists()


@pytest.mark.parametrize("service", ["gateway", "inference"])
def test_only_the_tree_of_a_service_that_runs_graphs_needs_the_compiler(tree, no_compiler, service):
    for folder in ("devtools", "llmos"):
        shutil.rmtree(tree / folder)
    for folder in (tree / "services").iterdir():
        if folder.is_dir() and folder.name != service:
            shutil.rmtree(folder)
    if service != "inference":
        shutil.rmtree(tree / "operators")
    done = install(tree, "wheel", no_compiler)
    if service == "inference":
        assert "not today" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert wheel_of(tree).name == "llmos-0.1.0-py3-none-any.whl"


def test_building_needs_nothing_but_python_before_it_asks_for_the_compiler(tree):
    script = tree / "operators/build.py"
    done = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=False)
    assert "no compiler for the operators: `pip install --require-hashes -r requirements/build.lock`" in done.stderr


def test_a_missing_library_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setattr(operators, "LIBRARY", tmp_path / "liboperators.so")
    with pytest.raises(InvalidInput, match=r"liboperators.so is missing: build it with `python -m operators"):
        operators.register(onnxruntime.SessionOptions())


def test_the_compiler_that_an_install_asks_for_is_the_locked_one():
    pin = next(line for line in (ROOT / "requirements/build.in").read_text().splitlines() if "ziglang" in line)
    assert f'"{pin}"' in (ROOT / "pyproject.toml").read_text()
    assert f"{pin} \\" in (ROOT / "requirements/build.lock").read_text().splitlines()
