"""Two processes that `torchrun` starts equal one."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from safetensors.numpy import load_file

from tests.support.train.nano_runs import command, files, nano_run, start, write_recipe

pytestmark = [pytest.mark.train, pytest.mark.timeout(300)]
RECIPES = {
    "adapter": {},
    "packed adapter": {"compute": {"packing": "yes", "micro_tokens": 200}},
    "preferences": {"method": "dpo"},
    "adversary": {"robust": {"reverse": {"weight": 0.5, "words": [["r", "f"]]}}},
    "full weights, sharded": {"weights": "full"},
    "full weights, uneven": {"weights": "full", "batch": 5, "compute": {"micro_tokens": 1, "packing": "no"}},
}


LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m"]  # fmt: skip


def torchrun(folder, recipe, *, more=()):
    options = files(folder, method=recipe.get("method", "sft"))
    arguments = command(options, write_recipe(folder / "r.toml", recipe), *more)[2:]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*LAUNCHER, *arguments], capture_output=True, text=True, check=False, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_equal_one(tmp_path, name):
    one = nano_run(tmp_path / "one", RECIPES[name])
    events = torchrun(tmp_path / "two", RECIPES[name])
    assert [event["event"] for event in events].count("finished") == 1
    losses = [event["loss"] for event in events if event["event"] == "step"]
    assert losses[-1] == pytest.approx(one.losses[-1], rel=1e-6)
    (path,) = (tmp_path / "two/out/result").glob("*.safetensors")
    both, alone = load_file(path), one.weights()
    assert both.keys() == alone.keys()
    joined = [np.concatenate([tensors[key].ravel() for key in sorted(alone)]) for tensors in (alone, both)]
    assert np.linalg.norm(joined[0] - joined[1]) <= 1e-6 * np.linalg.norm(joined[0])


@pytest.mark.parametrize("name", ["adapter", "full weights, sharded"])
def test_one_process_goes_on_where_two_stopped(tmp_path, name):
    """A checkpoint does not depend on how many processes wrote it."""
    recipe = RECIPES[name] | {"steps": 4}
    whole = nano_run(tmp_path / "whole", recipe)
    torchrun(tmp_path / "two", recipe, more=("--checkpoint-steps", "2"))
    shutil.rmtree(tmp_path / "two/out/checkpoints/step-00000004")
    shutil.rmtree(tmp_path / "two/out/result")
    resumed = nano_run(tmp_path / "two", recipe)
    assert resumed.steps[0].step == 3
    assert resumed.losses == pytest.approx(whole.losses[2:], rel=1e-5)


def test_processes_that_are_asked_to_stop_write_one_checkpoint_and_go_on(tmp_path):
    recipe = {"steps": 4000, "adapter": {"dropout": 0.1}}
    options = files(tmp_path)
    arguments = [*LAUNCHER, *command(options, write_recipe(tmp_path / "r.toml", recipe))[2:]]
    process = start(arguments)
    for line in process.stdout:
        if json.loads(line).get("step", 0) > 3:
            break
    process.terminate()
    rest, errors = process.communicate(timeout=120)
    events = [json.loads(line) for line in rest.splitlines()]
    assert [event["event"] for event in events if event["event"] != "step"] == ["checkpoint", "paused"], errors[
        -2000:
    ]
    (checkpoint,) = (options.output / "checkpoints").iterdir()
    assert int(checkpoint.name.removeprefix("step-")) == events[-1]["step"]
    process = start(arguments)
    assert json.loads(process.stdout.readline())["step"] == events[-1]["step"]
    process.terminate()
    process.communicate(timeout=120)
