"""A whole LLMOS in a temporary home, driven through its command line, for tests."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import orjson
import psutil

from llmos.home import Home
from shared.service.python import python_module
from tests.support.nats.server import free_port

Value = TypeVar("Value")
START_TIMEOUT_S = 180.0
BRIEF = "You are a helpful assistant. Answer in one short sentence."
"""Makes a small model's greedy answer to a plain question clear-cut: no near-tie that quantisation could flip."""


def until(condition: Callable[[], Value], timeout: float, what: str) -> Value:
    """The first true value of `condition`; fails naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout:.0f} s: {what}")


class Embedded:
    """`llmos up` in a process of its own.

    Args:
        home: Its folder.
        demo: Whether it imports, deploys and asks the demo model.
        env: More environment for it.
        under: A program with arguments that runs `llmos` and all its commands, such as strace.
        cwd: The folder in which commands are typed; by default that of the tests.
    """

    def __init__(
        self,
        home: Path,
        *,
        demo: bool,
        env: dict[str, str] | None = None,
        under: tuple[str, ...] = (),
        cwd: Path | None = None,
    ) -> None:
        self.home = Home.at(home)
        self.port, self.grpc_port = free_port(), free_port()
        self._demo = demo
        self.command = (*under, *python_module("llmos"))
        self._cwd = cwd
        given = {"COLUMNS": "200", "LLMOS_GATEWAY_GRPC_PORT": str(self.grpc_port), **(env or {})}
        self._env = {**os.environ, **given}
        for name in ("LLMOS_HOME", "LLMOS_URL", "LLMOS_API_KEY"):
            self._env.pop(name, None)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Of its commands."""
        return dict(self._env)

    @property
    def url(self) -> str:
        """The gateway."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The admin key."""
        key = self.home.admin_key()
        assert key is not None
        return key

    @property
    def pid(self) -> int:
        """Of `llmos up`."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What `llmos up` has printed so far."""
        return (self.home.root / "up.out").read_text()

    def start(self) -> Self:
        """Start, and wait until it says that it is ready."""
        with (self.home.root / "up.out").open("wb") as out:
            self._process = subprocess.Popen(
                [*self.command, "up", "--home", str(self.home.root), "--port", str(self.port)]
                + ([] if self._demo else ["--no-demo"]),
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._env,
            )
        process = self._process

        def ready() -> bool:
            assert process.poll() is None, f"llmos up ended with {process.returncode}:\n{self.output}"
            system = self.home.system()
            return system is not None and system.ready

        until(ready, START_TIMEOUT_S, f"ready; so far:\n{self.output}")
        return self

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(timeout=60)
        self._process = None
        return code

    def kill(self) -> None:
        """`kill -9` of the launcher."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            code = self.stop()
            assert code == 0, self.output
        until(lambda: not self.processes(), 20, f"no process left: {self.processes()}")

    def processes(self) -> dict[int, str]:
        """All living processes of this home: pid to command line."""
        found = {}
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                mine = str(self.home.root) in command or process.environ().get("LLMOS_LOG_DIR") == str(self.home.logs)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = command
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def pid_of(self, what: str) -> int:
        """The pid of `nats-server`, a service, or `replica`."""
        pattern = re.compile(
            {"nats-server": r"nats-server -c", "replica": r"-m services\.inference\.replica"}.get(
                what, rf"-m services\.{what}$"
            )
        )
        pids = [pid for pid, command in self.processes().items() if pattern.search(command)]
        assert len(pids) == 1, f"{what}: {pids} in {self.processes()}"
        return pids[0]

    def cli(
        self, *arguments: str, stdin: str | None = None, env: Mapping[str, str] = {}, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """Run `llmos …` on this home, with `env` on top of its environment."""
        end = arguments.index("--") if "--" in arguments else len(arguments)  # behind it is another program's
        return subprocess.run(
            [*self.command, *arguments[:end], "--home", str(self.home.root), *arguments[end:]],
            cwd=self._cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**self._env, **env},
        )

    def json(self, *arguments: str) -> Any:
        """What `llmos … --json` prints; fails when it fails."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return orjson.loads(done.stdout)

    def http(self, *, timeout: float = 60) -> httpx.Client:
        """An HTTP client with the admin key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=timeout)

    def ask(self, question: str = "What is the capital of France?", **body: Any) -> str:
        """A greedy answer of the demo model; raises `httpx.HTTPError` when there is none."""
        with self.http() as client:
            response = client.post(
                "/v1/chat/completions",
                json={
                    "model": "smollm2",
                    "messages": [{"role": "system", "content": BRIEF}, {"role": "user", "content": question}],
                    "temperature": 0,
                    "max_tokens": 24,
                    **body,
                },
            )
        response.raise_for_status()
        text: str = response.json()["choices"][0]["message"]["content"]
        return text
