"""`make clients`: what programs say about themselves, and that only an answer counts as one."""

import os
import sys
from pathlib import Path

import pytest

from tests.clients import outcome as outcomes
from tests.clients.environment import NotInstalled
from tests.clients.outcome import Verdict, outcome
from tests.clients.program import Program, programs, read


def test_every_program_names_its_client_with_a_version_and_says_what_it_asks():
    known = programs()
    assert {
        ("openai", True), ("anthropic", True), ("ollama", True), ("langchain-openai", True), ("litellm", True),
        ("openai-agents", True), ("pydantic-ai", True), ("llama-index", True), ("tritonclient", True),
        ("openai", False), ("ai", False), ("@ai-sdk/openai", False), ("@langchain/openai", False),
    } <= {(program.client[0], program.is_python) for program in known}  # fmt: skip
    assert all(program.asks for program in known)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("print(1)", "expected '# /// script'"),
        ('# /// script\n# dependencies = ["openai==1.0"]\n# ///', "expected '# /// script'"),
        ('# /// script\n# dependencies = ["openai>=1.0"]\n# tool.llmos.asks = "a"\n# ///', "no exact version"),
        ('# /// script\n# dependencies = ["openai"]\n# tool.llmos.asks = "a"\n# ///', "no exact version"),
    ],
)
def test_metadata_that_is_missing_or_loose_is_named(tmp_path: Path, lines: str, problem: str):
    path = tmp_path / "it.py"
    path.write_text(lines)
    with pytest.raises(ValueError, match=problem):
        read(path)


@pytest.mark.parametrize(
    ("code", "verdict", "said"),
    [
        ("print('fine'); print('so far')", Verdict.OK, "fine so far"),
        ("pass", Verdict.FAILED, "it printed nothing"),
        ("print('half'); raise ValueError('not so')", Verdict.FAILED, "ValueError: not so"),
        ("import sys; sys.exit(3)", Verdict.FAILED, "exit code 3"),
        ("import time; time.sleep(60)", Verdict.FAILED, "not within 1 s"),
    ],
)
def test_only_an_answer_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, verdict: str, said: str):
    program = Program(tmp_path / "it.py", ("it==1.0",), "anything")
    program.path.write_text(code)
    monkeypatch.setattr(outcomes, "command", lambda program, _: [sys.executable, "-P", str(program.path)])
    if "sleep" in code:
        monkeypatch.setattr(outcomes, "TIMEOUT_S", 1.0)
    found = outcome(program, {"PATH": os.environ["PATH"]}, tmp_path)
    assert (found.verdict, found.said) == (verdict, said)


def test_a_client_that_cannot_be_installed_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    program = Program(tmp_path / "it.py", ("no-such-client==1.0",), "anything")
    found = outcome(program, {}, tmp_path / "cache")
    assert found.verdict is Verdict.NOT_INSTALLED
    assert "no-such-client" in found.said
    with pytest.raises(NotInstalled):
        outcomes.command(program, tmp_path / "cache")
