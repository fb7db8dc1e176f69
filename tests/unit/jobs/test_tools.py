"""The tools of the kinds of jobs, and what is missing for them."""

import json
import subprocess
import sys
from importlib import metadata
from typing import get_args

import pytest

from devtools.jobs import tools
from devtools.jobs.tools import TOOLS, KindOfJob, lacking, tool_of
from shared.contracts.job import JobKind
from shared.errors import UnsupportedFormat
from shared.service.python import python_module


def test_every_kind_of_job_has_a_tool():
    assert TOOLS.keys() == set(get_args(JobKind))
    for kind in TOOLS:
        assert callable(tool_of(kind))
    with pytest.raises(UnsupportedFormat, match="this node can't run jobs of kind 'dream'"):
        tool_of("dream")


@pytest.fixture
def hidden(monkeypatch):
    """Distributions that seem not to be installed."""
    names: set[str] = set()
    found = metadata.distribution

    def distribution(name):
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(tools.metadata, "distribution", distribution)
    monkeypatch.setenv("LLMOS_JOB_GATEWAY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("LLMOS_JOB_API_KEY_FILE", "/key")
    return names


def test_what_a_kind_lacks_is_named_with_the_extra_that_has_it(hidden):
    hidden |= {"duckdb", "rensa"}
    found = lacking()
    assert found["prepare"].startswith(f"{sys.executable} lacks duckdb, rensa: run \"pip install 'llmos[data]'\"")
    assert "set LLMOS_INFERENCE_JOB_COMMAND" in found["prepare"]
    assert "run" not in found
    hidden.clear()
    hidden.add("gguf")  # which train takes from another extra
    assert "lacks gguf" in KindOfJob("", "", ("train",)).lacks({})


def test_onnxruntime_for_gpus_is_onnxruntime(hidden):
    hidden |= {"onnxruntime", "onnxruntime-gpu"}
    assert "lacks onnxruntime:" in lacking()["run"]


def test_an_evaluation_lacks_a_gateway_until_the_node_knows_one(hidden, monkeypatch):
    assert "evaluate" not in lacking()
    monkeypatch.delenv("LLMOS_JOB_API_KEY_FILE")
    assert "set LLMOS_JOB_GATEWAY_URL and LLMOS_JOB_API_KEY_FILE" in lacking()["evaluate"]


def test_the_process_prints_what_is_missing_as_json():
    done = subprocess.run(
        python_module("devtools.jobs.run", "--lacking"),
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert "LLMOS_JOB_GATEWAY_URL" in json.loads(done.stdout)["evaluate"]
