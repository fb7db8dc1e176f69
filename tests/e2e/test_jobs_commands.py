"""Every command of docs/jobs.md, typed in its order on a system with a tiny model."""

import json
import re
import sys
import tomllib

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from safetensors.numpy import load_file

from devtools.data.rows import write_rows
from shared.contracts.manifest import Lineage
from tests.support.harness.documented import commands
from tests.support.harness.embedded import Embedded, until
from tests.support.models.small_model import write_small_gguf
from tests.support.train.nano_runs import turns

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(900)]

WAIT_S = 300.0
PAGE = commands("jobs.md")
TRAINER = """
import json, pathlib, sys
import numpy as np
from safetensors.numpy import load_file, save_file

base, data, output = map(pathlib.Path, sys.argv[1:])
rows = [json.loads(line) for path in data.rglob("*.jsonl") for line in path.open()]
shape = load_file(base / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].shape
name = "base_model.model.model.layers.0.self_attn.q_proj"
ones = lambda *shape: np.full(shape, 0.01, np.float32)
save_file({f"{name}.lora_A.weight": ones(2, shape[1]), f"{name}.lora_B.weight": ones(shape[0], 2)},
          output / "adapter_model.safetensors")
(output / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
print("rows", len(rows))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("typed")


@pytest.fixture(scope="module")
def system(folder):
    write_rows(folder / "chats.jsonl", turns())
    (folder / "trainer.py").write_text(TRAINER)
    gguf = write_small_gguf(folder / "tiny.gguf", scale=0.125)
    with Embedded(folder / "home", demo=False, cwd=folder) as system:
        done = system.cli("model", "import", str(gguf), "--name", "smollm2")
        assert done.returncode == 0, done.stderr
        yield system


class Page:
    """Types the commands of the page one after another."""

    def __init__(self, system, folder):
        self.left = [list(arguments) for arguments in PAGE]
        self._system = system
        self._folder = folder
        self.job = ""

    def type(self, *begin):
        """The next command, which begins with these words; what it prints."""
        arguments = self.left.pop(0)
        assert arguments[: len(begin)] == [*begin], f"the page goes on with {arguments}"
        arguments = [self.job if word == "JOB" else word for word in arguments]
        here = {"trainer.py": str(self._folder / "trainer.py"), "python": sys.executable}
        arguments = [here.get(word, word) for word in arguments]
        done = self._system.cli(*arguments, timeout=WAIT_S)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        if found := re.match(r"((?:train|run)-[0-9a-f]{6}) ", done.stdout):
            self.job = found[1]
        return done.stdout


def until_state(system, job, state):
    def reached():
        (found,) = [one for one in system.json("jobs") if one["id"] == job]
        assert found["state"] != "failed", found["message"]
        return found["state"] == state

    until(reached, WAIT_S, f"{job} is {state}")


def test_every_command_of_the_page(system, folder):
    page = Page(system, folder)
    assert "24 turns" in page.type("data", "import")
    assert page.type("train", "sft").startswith("train-")
    first = page.job
    assert f"{first} " in page.type("jobs")
    assert "data       support:1" in page.type("job", "show")
    assert "succeeded" in page.type("job", "logs")
    shown = page.type("model", "show")
    for fact in ("base     smollm2:1", "data     support:1", f"job      {first}", "code     llmos ", "recipe   "):
        assert fact in shown
    page.type("deploy")

    recipe = 'name = "long"\nbase = "smollm2"\ndatasets = ["support"]\nsteps = 100000\nmax_len = 128\n'
    (folder / "long.toml").write_text(recipe)
    done = system.cli("train", "long.toml", "--detach", "--memory", "1")
    assert done.returncode == 0, done.stderr
    page.job = done.stdout.split()[0]
    until_state(system, page.job, "running")
    page.type("job", "pause")
    until_state(system, page.job, "paused")
    page.type("job", "resume")
    until_state(system, page.job, "running")
    page.type("job", "cancel")
    until_state(system, page.job, "cancelled")
    page.type("job", "delete")

    shown = tomllib.loads(page.type("train", "sft"))
    assert (shown["optimizer"]["learning_rate"], shown["adapter"]["rank"], shown["base"]) == (1e-3, 4, "smollm2")
    (folder / "recipe.toml").write_text(recipe.replace("100000", "2").replace('"long"', '"helper"'))
    assert "model helper:2" in page.type("train", "recipe.toml")
    page.type("train", "--again")
    until_state(system, page.job, "succeeded")
    again, helper = (system.json("model", "show", name)["manifest"] for name in ("helper:3", "helper:1"))
    assert _weights(again) == _weights(helper)
    assert Lineage.model_validate(again["lineage"]).recipe == helper["lineage"]["recipe"]

    printed = page.type("job", "run")
    assert "rows 24" in printed
    assert "model mine:1" in printed
    assert system.json("model", "show", "mine")["manifest"]["lineage"]["base"] == helper["lineage"]["base"]
    page.type("model", "export")
    assert page.left == []
    _check_exports(system, folder)


def _weights(manifest):
    return next(file["digest"] for file in manifest["files"] if file["path"] == "model.onnx.data")


def _check_exports(system, folder):
    """What was exported is the model, and `mine` differs from it by the adapter."""
    done = system.cli("model", "import", str(folder / "smollm2"), "--name", "again", "--quantize", "none")
    assert done.returncode == 0, done.stderr
    imported, original = (system.json("model", "show", name)["manifest"] for name in ("again", "smollm2"))
    assert {file["path"]: file["digest"] for file in imported["files"]}["tokenizer.json"] == {
        file["path"]: file["digest"] for file in original["files"]
    }["tokenizer.json"]
    assert system.cli("model", "export", "mine", str(folder / "mine"), "--format", "hf").returncode == 0
    before, after = (load_file(folder / name / "model.safetensors") for name in ("smollm2", "mine"))
    changed = {name: after[name] - before[name] for name in before if not (after[name] == before[name]).all()}
    assert list(changed) == ["model.layers.0.self_attn.q_proj.weight"]
    assert changed["model.layers.0.self_attn.q_proj.weight"] == pytest.approx(2 * 2 * 0.01 * 0.01, rel=1e-3)
    assert system.cli("model", "export", "mine", str(folder / "files")).returncode == 0
    manifest = json.loads((folder / "files/manifest.json").read_text())
    assert {file["path"] for file in manifest["files"]} | {"manifest.json"} == {
        path.name for path in (folder / "files").iterdir()
    }
    refused = system.cli("model", "export", "mine", str(folder / "files"))
    assert (refused.returncode, "is not an empty folder" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "what kind of training? Give sft, full, dpo, pretrain, distil, scratch"),
        (("train", "lora", "smollm2", "support"), "'lora' is no kind of training"),
        (("train", "sft", "smollm2"), "llmos train sft needs BASE DATASET"),
        (("train", "sft", "smollm2", "support"), "what shall the result be called?"),
        (("train", "sft", "smollm2", "support", "--name", "X y"), "--name 'X y': expected"),
        (("train", "sft", "smollm2", "support", "--name", "x", "--set", "rnk=4"), "did you mean 'adapter.rank'?"),
        (("train", "sft", "smollm2", "nothing", "--name", "x"), "nothing"),
        (("train", "nowhere.toml"), "the recipe nowhere.toml can't be read"),
        (("train", "--again", "smollm2:1"), "was not made by a training here"),
        (("train", "dpo", "smollm2", "support", "--name", "x"), "method 'dpo' learns from pairs"),
        (("job", "run", "--result", "adapter", "--name", "x", "true"), "an adapter needs the base"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_wrong_is_said_in_one_line(system, arguments, message):
    done = system.cli(*arguments)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
