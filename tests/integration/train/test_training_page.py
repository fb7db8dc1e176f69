"""Every command of docs/training.md, with the recipe that the page shows, on a tiny base and made-up rows.

The lesson takes minutes: here its arguments are read, and `test_lesson.py` runs it.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.data.rows import write_rows
from shared.service.python import python_module
from tests.support.harness.documented import DOCS, blocks
from tests.support.train.nano_runs import base, turns

pytestmark = [pytest.mark.train, pytest.mark.timeout(300)]

PAGE = DOCS / "training.md"
SMALLER = ("--set", "max_len=128", "--set", "epochs=1")
"""The tiny base has not the page's 1,024 tokens."""


def commands() -> list[list[str]]:
    """Those in blocks without a language."""
    lines = [line for language, block in blocks(PAGE) if not language for line in block]
    return [shlex.split(line, comments=True) for line in lines]


def typed(folder: Path, arguments: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    program, *rest = arguments
    if program == "python":
        assert rest[0] == "-m"
        command = [*python_module(*rest[1:]), *more]
    else:
        found = shutil.which(program, path=str(Path(sys.executable).parent))
        assert found, f"{program} is not beside {sys.executable}"
        command = [found, *rest, *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=250)


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the files that the commands name."""
    base(tmp_path).rename(tmp_path / "MODEL.gguf")
    write_rows(tmp_path / "rows.jsonl", turns(40))
    (recipe,) = (block for language, block in blocks(PAGE) if language == "toml")
    (tmp_path / "recipe.toml").write_text("\n".join(recipe), encoding="utf-8")
    return tmp_path


def test_the_commands_of_the_page_are_these() -> None:
    assert [" ".join(command[: command.index("-m") + 2]) for command in commands()] == [
        "python -m devtools.train",
        "python -m devtools.train.lesson",
        "torchrun --standalone --nproc-per-node 2 -m devtools.train",
    ]


@pytest.mark.parametrize("at", [0, 2], ids=["one process", "two processes"])
def test_a_training_of_the_page_ends_with_an_adapter(folder: Path, at: int) -> None:
    places = {"MODEL": "MODEL.gguf"}
    seen = events(typed(folder, [places.get(word, word) for word in commands()[at]], *SMALLER))
    names = [event["event"] for event in seen]
    assert (names[0], names[-1], names.count("finished")) == ("started", "finished", 1)
    assert (folder / "FOLDER" / "result" / "adapter_model.safetensors").is_file()


def test_the_lesson_of_the_page_reads_its_arguments(folder: Path) -> None:
    done = typed(folder, commands()[1])
    assert done.returncode == 1, "2 would be argparse's: the arguments were wrong"
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in done.stderr
