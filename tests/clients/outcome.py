"""What came of a program."""

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.clients.environment import NotInstalled, command
from tests.clients.program import Program

TIMEOUT_S = 300.0
_SHOWN = 60
"""Characters of an answer that are shown."""


class Verdict(StrEnum):
    """Only `OK` counts as one."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_INSTALLED = "NOT INSTALLED, NOT TRIED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one program."""

    program: Program
    verdict: Verdict
    said: str
    """The beginning of the answer, or why there is none."""

    @property
    def fields(self) -> tuple[str, str, str, str, str, str]:
        """(client, version, language, what was asked, verdict, what was said)."""
        language = "Python" if self.program.is_python else "Node.js"
        return *self.program.client, language, self.program.asks, self.verdict, self.said


def outcome(program: Program, environment: Mapping[str, str], cache: Path) -> Outcome:
    """Install what a program needs, and run it.

    Args:
        program: It runs in an empty folder.
        environment: All variables that it has.
        cache: The folder of installed environments.
    """
    try:
        words = command(program, cache)
    except NotInstalled as error:
        return Outcome(program, Verdict.NOT_INSTALLED, _one_line(str(error)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                words,
                env={**environment, "HOME": folder},
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return Outcome(program, Verdict.FAILED, f"not within {TIMEOUT_S:.0f} s")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        said = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        return Outcome(program, Verdict.FAILED, _one_line(said))
    answer = _one_line(done.stdout)
    return Outcome(program, Verdict.OK if answer else Verdict.FAILED, answer or "it printed nothing")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
