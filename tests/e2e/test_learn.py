"""The first lesson as a person types it: from rows to a version that answers, and from an answer back to rows."""

import os
import re
import subprocess

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from shared.service.python import python_module

LONG = pytest.mark.skipif("LLMOS_TEST_LONG" not in os.environ, reason="takes minutes: set LLMOS_TEST_LONG=1")
pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(1800), LONG]

NEEDED = 22
"""Of 24 sentences in other words than those that were learnt."""


def test_smollm2_learns_codes_and_an_answer_leads_back_to_the_rows(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")}
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        python_module("llmos", "learn", "--home", str(tmp_path / "home")),
        env={**env, "TMPDIR": str(temporary), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1700,
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    before, after = (int(found) for found in re.findall(r"gives the right code for (\d+) of 24", said))
    assert before == 0, "it can't know the codes"
    assert after >= NEEDED
    dataset, version = (
        re.search(pattern, said)[1] for pattern in (r"become (ticket-codes:\d+)", r"made (ticket-codes:\d+)")
    )
    job = re.search(r"3\. (train-[0-9a-f]{6}) made", said)[1]
    trace = said[said.index("\ntrace ") :]
    for fact in (
        rf"version  {version}  [0-9a-f]{{12}}",
        rf"run  {job}  recipe [0-9a-f]{{12}}  llmos \S+, torch \S+",
        rf"data  {dataset}  [0-9a-f]{{12}}  32 turns from tickets\.jsonl",
        r"base  smollm2:1  [0-9a-f]{12}",
        r"source  SmolLM2-135M-Instruct\.Q4_1\.gguf  [0-9a-f]{12}",
    ):
        assert re.search(fact, trace), trace
    assert "decode" in trace, "the spans of the answer stand above its lineage"
    assert not [path.name for path in temporary.iterdir() if path.name.startswith("llmos-learn-")]
