"""Many commands of `llmos`, one after another in one child process: a Python for each would take minutes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RUN = """
import io, json, sys
from llmos.cli import main
done = []
real = sys.stdout
for arguments in json.load(sys.stdin):
    sys.stdin, sys.argv = io.TextIOWrapper(io.BytesIO()), ["llmos", *arguments]
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code, crash = 0, ""
    try:
        main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException as error:
        crash = f"{type(error).__name__}: {error}"
    texts = []
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    done.append([code, *texts, crash])
json.dump(done, real)
"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    arguments: Sequence[str]
    code: int
    out: str
    err: str
    crash: str
    """The exception that would have been a traceback; empty if none."""

    @property
    def complaint(self) -> str:
        """What it says is wrong, in one line of its own (code 1) or in the box for wrong usage (code 2).

        Raises AssertionError for anything else: a traceback, several lines, words on standard output, success.
        """
        assert not self.crash, f"{self.arguments}: {self.crash}"
        assert not self.out, f"{self.arguments}: {self.out}"
        assert self.code in (1, 2), f"{self.arguments}: exit code {self.code}, {self.err}"
        assert "Traceback" not in self.err
        assert "validation error" not in self.err, f"{self.arguments}: {self.err}"
        lines = [line for line in self.err.splitlines() if line.strip()]
        if self.code == 1:
            assert len(lines) == 1, f"{self.arguments}: {self.err}"
            assert lines[0].startswith("error: "), f"{self.arguments}: {self.err}"
            return lines[0].removeprefix("error: ")
        assert lines[0].startswith("Usage: llmos"), f"{self.arguments}: {self.err}"
        assert len(lines) <= 6, f"{self.arguments}: {self.err}"
        return " ".join(line.strip("│ ") for line in lines[3:-1])


def run_commands(commands: Sequence[Sequence[str]], env: Mapping[str, str]) -> list[Done]:
    """Run `llmos` with each of `commands`, with nothing on standard input and `env` on top of this environment."""
    child = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(commands).encode(),
        stdout=subprocess.PIPE,
        timeout=240,
        check=True,
        env={**os.environ, "COLUMNS": "240", **env},
    )
    return [Done(arguments, *ended) for arguments, ended in zip(commands, json.loads(child.stdout), strict=True)]
