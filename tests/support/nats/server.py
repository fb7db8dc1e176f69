"""A real nats-server on loopback, for tests."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.bus.access.provision import provision
from shared.service.tether import tethered


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """A nats-server with JetStream; the port and the store folder stay the same across restarts.

    Without a `config` of its own it has no users, and all buckets and streams of LLMOS.

    Args:
        folder: Where JetStream keeps its files; None makes a temporary one that goes away at the end.
        config: More lines of server configuration (users, permissions, limits).
        user: `name:password` to put into `url`.
        start: Whether entering the context starts the server; without it `url` names a port where nothing listens.
    """

    def __init__(
        self, folder: Path | None = None, *, config: str = "", user: str | None = None, start: bool = True
    ) -> None:
        self.port = free_port()
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="llmos-nats-"))
        self.config = config
        self._user = user
        self._start_on_enter = start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to connect."""
        login = f"{self._user}@" if self._user else ""
        return f"nats://{login}127.0.0.1:{self.port}"

    @property
    def owner_url(self) -> str | None:
        """Where LLMOS's buckets and streams are made after a start; None: nowhere."""
        return None if self.config else self.url

    def url_for(self, user: str, password: str) -> str:
        """The URL with other credentials."""
        return f"nats://{user}:{password}@127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has written so far."""
        path = self.folder / "server.log"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        assert not self.running, "the server runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: {self.port}\njetstream {{ store_dir: "{self.folder}" }}\n{self.config}\n'
        )
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert binary, "no nats-server: install the extra `dev`"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered(binary, "-c", str(config)),
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()
        if self.owner_url is not None:
            self._provision(self.owner_url)

    def kill(self) -> None:
        """`kill -9`: what was not written is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop in good order. No error when it does not run."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze the process: connections stay open without any answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        if self._start_on_enter:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(signal.SIGKILL)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(timeout=20)
        self._process = None

    def _provision(self, url: str) -> None:
        """Make the buckets and streams that services find. In a thread: the test may run an event loop here."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, provision(url)).result()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    if connection.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"nats-server did not start:\n{self.log}")
