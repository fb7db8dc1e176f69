"""What is measured: LLMOS as a person starts it, and llama-server, each on loopback in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.client import ChatClient
from llmos.client import Client, wait_ready
from llmos.home import Home
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import Deploy
from shared.contracts.serving import DRAFT_TOKENS

START_S = 180.0
STOP_S = 90.0
MODEL = "bench"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is asked without the environment's proxy."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a server is set up; the same for both."""

    slots: int
    max_len: int
    """Tokens of prompt and answer together."""
    prefix_cache: bool = True
    draft_tokens: int = DRAFT_TOKENS
    """Of LLMOS alone, as the next."""
    threads: int | None = None
    """Reserved for a replica; None: it shares all."""


def free_port() -> int:
    """A free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Llmos:
    """`llmos up` in a temporary home, with one version of the model."""

    name = "llmos"

    def __init__(self, home: Home, url: str, manifest: Manifest, folder: Path) -> None:
        self._admin = Client(url, home.admin_key() or "")
        self._url = url
        self._count = 0
        self._admin.models.upload(manifest, folder)
        self._reference = self._admin.models.create(MODEL, manifest).reference

    def key(self, name: str) -> str:
        """A new API key: a tenant of its own."""
        key: str = self._admin.create_key(name, ["inference"])["key"]
        return key

    @contextmanager
    def serving(self, shape: Shape) -> Iterator[ChatClient]:
        """A deployment in that shape."""
        self._count += 1
        name = f"{MODEL}-{self._count}"
        cache = None if shape.prefix_cache else 0
        self._admin.deploy(
            Deploy(
                reference=self._reference,
                name=name,
                slots=shape.slots,
                max_len=shape.max_len,
                prefix_cache=cache,
                draft_tokens=shape.draft_tokens,
                threads=shape.threads,
            )
        )
        try:
            for _ in wait_ready(self._admin, name, START_S):
                pass
            yield ChatClient(self._url, name, self.key(name))
        finally:
            self._admin.undeploy(name)
            deadline = time.monotonic() + STOP_S
            while time.monotonic() < deadline and any(
                item.heartbeat.instance.startswith(f"{name}-") and item.up for item in self._admin.health().instances
            ):
                time.sleep(0.2)


@contextmanager
def llmos(home: Path, manifest: Manifest, folder: Path) -> Iterator[Llmos]:
    """The whole system, from its start to its drain."""
    state, port = Home.at(home), free_port()
    log = home / "up.out"
    with log.open("wb") as out:
        command = [sys.executable, "-P", "-m", "llmos", "up", "--no-demo", "--home", str(home), "--port", str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while (system := state.system()) is None or not system.ready:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"LLMOS did not start: {log.read_text()[-800:]}")
            time.sleep(0.1)
        yield Llmos(state, system.url, manifest, folder)
    finally:
        _end(process)


class LlamaServer:
    """llama.cpp's server on the same file."""

    name = "llama_server"

    def __init__(self, binary: Path, gguf: Path, threads: int) -> None:
        self._binary, self._gguf, self._threads = binary, gguf, threads

    @contextmanager
    def serving(self, shape: Shape) -> Iterator[ChatClient]:
        """A process in that shape; every slot has the whole of `max_len`."""
        port = free_port()
        command = [
            str(self._binary),
            *("-m", str(self._gguf), "--alias", MODEL, "--host", "127.0.0.1", "--port", str(port)),
            *("-np", str(shape.slots), "-c", str(shape.slots * shape.max_len), "-t", str(self._threads)),
        ]
        if not shape.prefix_cache:
            command += ["--no-cache-prompt"]
        process = subprocess.Popen(
            command,
            env=beside(self._binary),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until_healthy(f"http://127.0.0.1:{port}/health", process, " ".join(command))
            yield ChatClient(f"http://127.0.0.1:{port}", MODEL)
        finally:
            _end(process)


def beside(binary: Path) -> dict[str, str]:
    """The environment of a program whose libraries lie beside it."""
    return {**os.environ, "LD_LIBRARY_PATH": f"{binary.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


def _until_healthy(url: str, process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with _DIRECT.open(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise SystemExit(f"it did not start: {what}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
