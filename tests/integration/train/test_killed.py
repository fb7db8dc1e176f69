"""A run that is killed at any moment and started again leaves the bytes of one that was not."""

import json
import random
import time

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from tests.support.train.nano_runs import command, files, start, write_recipe

pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]
RECIPE = {
    "steps": 60,
    "adapter": {"dropout": 0.2},
    "robust": {"dropout": 0.1, "neftune": 2.0},
    "validation": {"share": 0.25, "every": 7},
}
KILLS = 5


def finished(lines):
    events = [json.loads(line) for line in lines if line.rstrip().endswith("}")]
    return next((event for event in events if event["event"] == "finished"), None)


def test_killed_at_random_moments_and_resumed_equals_uninterrupted(tmp_path):
    recipe = write_recipe(tmp_path / "recipe.toml", RECIPE)
    whole = files(tmp_path / "whole")
    process = start(command(whole, recipe, "--checkpoint-steps", "1"))
    process.stdout.readline()  # it has begun to train
    began = time.monotonic()
    lines, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    took, expected = time.monotonic() - began, finished(lines.splitlines())

    draw, options = random.Random(0), files(tmp_path / "killed")
    seen, kills = [], 0
    while kills < KILLS:
        process = start(command(options, recipe, "--checkpoint-steps", "1"))
        first = process.stdout.readline()  # it has begun to train
        seen.append(json.loads(first)["step"] if first else 0)
        time.sleep(draw.uniform(0, took / 6))  # a moment that nobody chose: between steps, or while it saves
        process.kill()
        rest, _ = process.communicate(timeout=60)
        kills += 1
        if finished(rest.splitlines()):
            break
    process = start(command(options, recipe, "--checkpoint-steps", "1"))
    lines, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert kills >= 3, "too fast for the test to mean anything"
    assert max(seen) > 0, "no run was resumed"
    assert finished(lines.splitlines())["digest"] == expected["digest"]
    assert not list((options.output / "checkpoints").glob(".*"))
