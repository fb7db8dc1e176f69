"""The lesson: SmolLM2 learns codes that it cannot know, and writes them for sentences that it never saw."""

import json
import os
import subprocess

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from devtools.data.rows import read_rows
from devtools.train.lesson.proof import RECIPE, TICKETS, UNSEEN
from devtools.train.recipe import read_recipe
from shared.service.python import python_module
from tests.support.models.smollm2 import smollm2_gguf

LONG = pytest.mark.skipif("LLMOS_TEST_LONG" not in os.environ, reason="takes minutes: set LLMOS_TEST_LONG=1")
pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(1200), LONG]  # two minutes of an idle core


def test_smollm2_learns_the_lesson(tmp_path):
    command = [
        *python_module("devtools.train.lesson"),
        "--base",
        str(smollm2_gguf()),
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run([*command, "--threads", "2"], capture_output=True, text=True, check=False, timeout=1100)
    assert done.returncode == 0, done.stderr[-3000:]
    proof = json.loads(done.stdout)
    assert proof["unseen"] == 24
    assert proof["before"] == 0
    assert proof["after"] >= 22
    assert (tmp_path / "result" / "adapter_model.safetensors").exists()


def test_the_unseen_sentences_are_unseen():
    seen = {row.messages[-1].content for row in read_rows(TICKETS)}
    unseen = {row.messages[-1].content for row in read_rows(UNSEEN)}
    assert (len(seen), len(unseen)) == (32, 24)
    assert not seen & unseen
    assert {row.answer.content for row in read_rows(UNSEEN)} == {row.answer.content for row in read_rows(TICKETS)}
    assert read_recipe(RECIPE).weights == "adapter"
