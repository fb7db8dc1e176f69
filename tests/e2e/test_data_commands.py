"""Every command in docs/data.md works as it stands there."""

import json
import re
import shlex
import subprocess

import duckdb
import pytest

from tests.support.harness.compose import ROOT
from tests.support.harness.embedded import Embedded

PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines of blocks that name no language, without their comments."""
    found, inside = [], None
    for line in PAGE.splitlines():
        if line.startswith("```"):
            inside = line if inside is None else None
        elif inside == "```" and line.startswith("llmos "):
            found.append(re.split(r"\s{2,}#", line)[0].strip())
    return found


def chat(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the page speaks of."""
    path = tmp_path_factory.mktemp("files")
    chats = [chat(f"Where is the order with the number {n}?", f"It left our store on day {n}.") for n in range(30)]
    chats += [chat("Who wrote this letter to us?", "He did: ann.lee@firm.org"), chats[3]]
    (path / "chats.jsonl").write_text("".join(chats))
    (path / "broken.jsonl").write_text(chats[0] + chat("And?", "") + "{\n")
    (path / "questions.csv").write_text('question,choices,answer\nHow much is 1 + 1?,"[""1"", ""2""]",B\n')
    (path / "handbook.md").write_text("# Returns\n\nWithin a month.\n")
    (path / "notes.txt").write_text("The store opens at nine.\n")
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}
    (path / "preferences.jsonl").write_text(json.dumps(pair) + "\n")
    (path / "more.jsonl").write_text("".join(chat(f"Can I return item {n}?", "Yes, you can.") for n in range(20)))
    duckdb.sql(f"SELECT * FROM read_json('{path / 'preferences.jsonl'}')").write_parquet(
        str(path / "preferences.parquet")
    )
    return path


@pytest.mark.timeout(400)
def test_every_command_of_the_page(folder, tmp_path):
    assert len(commands()) > 18
    with Embedded(tmp_path, demo=False, cwd=folder) as system:
        shell = {"LLMOS_HOME": str(system.home.root)}
        assert system.cli("data", "import", "more.jsonl", "--name", "more").returncode == 0
        printed = {}
        for command in commands():
            script = command.replace("llmos ", f"{shlex.join(system.command)} ", 1)
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=folder,
                env={**system._env, **shell},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            expected = 1 if command == "llmos data check support" else 0
            assert done.returncode == expected, f"{command}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
            printed[command.split(" --")[0]] = done.stdout
    assert "support:1  32 turns" in printed["llmos data import chats.jsonl"]
    assert "personal_data.email: 1" in printed["llmos data check support"]
    assert "duplicate: 1  train-00000.jsonl:32" in printed["llmos data check support"]
    assert "something is to be decided" in printed["llmos data check broken.jsonl"]
    assert "step      near-duplicates threshold=0.7: 31" in printed["llmos data show support:2"]
    assert "[EMAIL]" in printed["llmos data diff support:1 support:2"]
    assert "team:1  1 items" in printed["llmos data import questions.csv"]
    assert (folder / "rows-of-support" / "validation.jsonl").exists()
