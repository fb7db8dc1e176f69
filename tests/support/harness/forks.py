"""Python processes that start in milliseconds: one process imports what they need and forks for each.

A service's imports take a second of CPU; a suite that starts dozens of them would do little else.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_PARENT = """
import importlib, json, os, signal, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
statuses = {}
for line in sys.stdin:
    order = json.loads(line)
    if "start" in order:
        pid = os.fork()
        if pid == 0:
            for number, path in ((1, order["out"]), (2, order["err"])):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdin = open(0, closefd=False)
            os.environ.update(order["env"])
            exec(compile(order["start"], "<service>", "exec"), {"__name__": "__main__"})
            sys.exit(0)
        answer = pid
    else:
        pid = order["poll"]
        if pid not in statuses:
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        answer = statuses.get(pid)
    print(json.dumps(answer), flush=True)
"""


class Fork:
    """One process."""

    def __init__(self, forks: "PythonForks", pid: int) -> None:
        self.pid = pid
        self._forks = forks

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it lives."""
        return self._forks.ask({"poll": self.pid})

    def send_signal(self, number: signal.Signals) -> None:
        """No error when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class PythonForks:
    """A process that has imported `modules`, to be forked. The forks end with it at the latest."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._started: list[Fork] = []

    def start(self, code: str, *, env: dict[str, str], out: Path, err: Path) -> Fork:
        """Run `code` in a new process whose environment has `env` added."""
        for path in (out, err):
            path.write_text("")
        pid = self.ask({"start": code, "env": env, "out": str(out), "err": str(err)})
        assert pid is not None
        self._started.append(Fork(self, pid))
        return self._started[-1]

    def ask(self, order: dict[str, object]) -> int | None:
        """One order to the process, and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PARENT, *self._modules],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fork in self._started:
            fork.kill()
        self._process.communicate()
