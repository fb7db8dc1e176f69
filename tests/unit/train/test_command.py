"""The command: events as JSON lines, exit codes, signals."""

import json
import signal
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.train.command import DIVERGED, DONE, FAULT, PAUSED, REFUSED, STORAGE_FULL
from shared.service.python import python_module
from tests.support.train.nano_runs import command, files, start, write_recipe

pytestmark = pytest.mark.train


def run(arguments, **more):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False, **more)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def options(tmp_path):
    return files(tmp_path)


def test_events_are_json_lines_and_nothing_else(tmp_path, options):
    code, events, errors = run(command(options, write_recipe(tmp_path / "r.toml", {})))
    assert code == DONE, errors
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert {"step", "checkpoint"} <= set(kinds)
    step = next(event for event in reversed(events) if event["event"] == "step")
    assert (step["step"], step["steps"], step["eta_s"]) == (4, 4, 0)
    assert step["memory"] > 100e6
    assert step["tokens_per_second"] > 0
    assert step["loss"] > 0
    assert errors == ""
    assert (tmp_path / "out/result/adapter_model.safetensors").exists()
    assert run(command(options, tmp_path / "r.toml"))[1] == [events[-1]]


@pytest.mark.parametrize(
    ("recipe", "more", "expected"),
    [
        ({"optimiser": 1}, [], (REFUSED, "did you mean 'optimizer'")),
        ({}, ["--set", "batch=0"], (REFUSED, "batch is 0")),
        ({}, ["--threads", "0"], (REFUSED, "--threads is 0")),
        ({}, ["--checkpoint-steps", "0"], (REFUSED, "--checkpoint-steps is 0")),
        ({}, ["--base", "/nowhere"], (REFUSED, "there is no model /nowhere")),
        ({}, ["--data", "/nowhere.jsonl"], (REFUSED, "can't be read")),
        ({}, ["--adapter", "/"], (REFUSED, "has no adapter_config.json")),
        ({"optimizer": {"learning_rate": 1e20}, "schedule": {"warmup": 0.0}}, [], (DIVERGED, "not a number at step")),
    ],
)
def test_a_failure_is_one_event_with_code_and_field(tmp_path, options, recipe, more, expected):
    code, message = expected
    returned, events, errors = run(command(options, write_recipe(tmp_path / "r.toml", recipe), *more))
    assert returned == code, errors
    assert events[-1]["event"] == "failed"
    assert message in events[-1]["message"]
    assert events[-1]["param"]
    assert "Traceback" not in errors


def test_a_fault_is_an_event_too(tmp_path, options):
    """The folder for the output is a file."""
    options.output.write_text("in the way")
    code, events, errors = run(command(options, write_recipe(tmp_path / "r.toml", {})))
    assert code == FAULT
    assert events[-1]["event"] == "failed"
    assert events[-1]["code"] == "internal"
    assert "Traceback" in errors


def test_a_full_disk_is_said_and_the_same_command_goes_on(tmp_path, options):
    recipe = write_recipe(tmp_path / "r.toml", {"steps": 6})
    limited = [sys.executable, "-c", (
        "import resource, sys; from devtools.train.command import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY)); sys.exit(main())"
    )]  # fmt: skip
    arguments = command(options, recipe, "--checkpoint-steps", "1")
    code, events, errors = run([*limited, *arguments[4:]])
    assert code == STORAGE_FULL, errors
    assert events[-1]["code"] == "storage_full"
    code, again, errors = run(arguments)
    assert code == DONE, errors
    assert again[-1]["event"] == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(tmp_path, options, number):
    recipe = write_recipe(tmp_path / "r.toml", {"steps": 5000})
    process = start(command(options, recipe))
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "step" and events[-1]["step"] > 3:
            break
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    events += [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == PAUSED, errors
    assert [event["event"] for event in events[-2:]] == ["checkpoint", "paused"]
    assert events[-1]["step"] >= 4
    assert errors == ""
    process = start(command(options, recipe))
    assert json.loads(process.stdout.readline())["step"] == events[-1]["step"]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == PAUSED


def test_help_says_what_is_written(tmp_path):
    done = subprocess.run(
        [*python_module("devtools.train"), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "RECIPE.toml" in done.stdout
