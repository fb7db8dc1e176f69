"""`llmos up` in a home on a small disk of its own, its processes, and whether it is whole."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from llmos.cli.demo import NAME
from llmos.client import Client
from llmos.home import Home
from shared.errors import LlmosError
from shared.service.python import python_module

START_S = 240.0
STOP_S = 150.0
SERVICES = ("registry", "scheduler", "monitor", "inference", "gateway")

Value = TypeVar("Value")


def until(condition: Callable[[], Value], timeout: float, what: str) -> Value:
    """The first true value of `condition`; raises `TimeoutError` naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError(f"not within {timeout:.0f} s: {what}")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes, in memory, at `folder`; raises `PermissionError` where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PermissionError(f"a small disk can't be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class System:
    """A running system with the demo's model."""

    def __init__(self, home: Home, process: subprocess.Popen[bytes], url: str) -> None:
        self.home = home
        self.url = url
        self.key = home.admin_key() or ""
        self._process = process
        self.replicas = 1
        """How many replicas are whole."""

    def children(self) -> dict[str, int]:
        """The pids of `nats-server`, each service and each `replica-N`, by name; N in the order of their start."""
        found: dict[str, int] = {}
        replicas = []
        for child in psutil.Process(self._process.pid).children(recursive=True):
            try:
                command = " ".join(child.cmdline())
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if "-m services.inference.replica" in command:
                replicas.append((child.create_time(), child.pid))
            elif service := re.search(r"-m services\.(\w+)$", command):
                found[service[1]] = child.pid
            elif re.search(r"nats-server -c", command):
                found["nats-server"] = child.pid
        return found | {f"replica-{number}": pid for number, (_, pid) in enumerate(sorted(replicas))}

    @property
    def launcher(self) -> int:
        """The pid of `llmos up`."""
        return self._process.pid

    def signal_all(self, number: signal.Signals) -> None:
        """To every process: the launcher first when they stop, so that it restarts none, and last when they go on."""
        pids = [self.launcher, *self.children().values()]
        for pid in pids if number is signal.SIGSTOP else reversed(pids):
            os.kill(pid, number)

    def client(self) -> Client:
        """As the administrator."""
        return Client(self.url, self.key)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `llmos …` on this home."""
        return subprocess.run(
            [*python_module("llmos", *arguments), "--home", str(self.home.root)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "COLUMNS": "400"},
        )

    def whole(self) -> bool:
        """Whether every service and replica is ready, and a chat is answered."""
        expected = {*SERVICES, "replica"}
        try:
            with self.client() as client:
                up = [item.heartbeat for item in client.health(timeout=5).instances if item.up]
                ready = [heartbeat.service for heartbeat in up if heartbeat.ready]
                (deployed,) = client.deployments(timeout=5).deployments
            body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
            headers = {"Authorization": f"Bearer {self.key}"}
            with httpx.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False) as http:
                answered = http.post("/v1/chat/completions", json=body).status_code == httpx.codes.OK
        except (LlmosError, httpx.HTTPError, ValueError):
            return False
        return answered and set(ready) >= expected and deployed.ready == self.replicas

    def scale(self, replicas: int) -> None:
        """Have so many replicas, and wait for them."""
        done = self.cli("deploy", NAME, "--replicas", str(replicas))
        if done.returncode:
            raise RuntimeError(done.stderr)
        self.replicas = replicas
        until(self.whole, START_S, f"{replicas} replicas")


@contextmanager
def system(folder: Path) -> Iterator[System]:
    """`llmos up` with the demo's model in `folder`, from its start to its drain."""
    home = Home.at(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    output = folder / "up.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            python_module("llmos", "up", "--home", str(folder), "--port", port),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"LLMOS did not start: {output.read_text()[-800:]}")
        running = home.system()
        return running is not None and running.ready

    try:
        until(ready, START_S, "started")
        yield System(home, process, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
