"""One project of Compose, in a copy of the tracked files with secrets of its own."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.make_secrets import make

ROOT = Path(__file__).resolve().parents[2]
UP_S = 300
DOWN_S = 60


TWICE = ("--scale", "inference=2", "--scale", "gateway=2")


class ComposeError(Exception):
    """Compose or Docker failed; the message has what it said."""


class Project:
    """docker-compose.yml as a user has it: unmodified, with `.env` from make_secrets.py, and free ports.

    Args:
        folder: Where the copy is made.
        docker: The environment of `docker`.
        profile: Of the file, beside what always runs.
        left_out: Services that have no image here.
        settings: Variables of `.env` that the file reads.
    """

    def __init__(
        self,
        folder: Path,
        docker: Mapping[str, str],
        profile: str,
        left_out: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.tree = folder / "llmos"
        self.name = f"llmos-test-{os.getpid()}"
        copy_tracked(self.tree)
        make(self.tree)
        self.ports = free_ports(2)
        rpc_ports = free_ports(2)
        self.jaeger_port, self.prometheus_port, grafana = (free_ports(1)[0] for _ in range(3))
        self._environment = {
            **docker,
            "GATEWAY_PORT": f"{self.ports[0]}-{self.ports[1]}",
            "GATEWAY_GRPC_PORT": f"{rpc_ports[0]}-{rpc_ports[1]}",
            "JAEGER_PORT": str(self.jaeger_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "GRAFANA_PORT": str(grafana),
            **(settings or {}),
        }
        self._compose = ["docker", "compose", "--project-name", self.name, "--profile", profile]
        self._left_out = left_out

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.tree / "deploy/secrets/admin-key").read_text(encoding="utf-8").strip()

    @property
    def env(self) -> dict[str, str]:
        """The variables of `.env`."""
        lines = (self.tree / ".env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def add_to_env(self, variables: Mapping[str, str]) -> None:
        """Append to `.env`."""
        with (self.tree / ".env").open("a", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in variables.items())

    def set(self, **settings: str) -> None:
        """Change settings for the next call."""
        self._environment |= settings

    def compose(self, *arguments: str, timeout: float = 900) -> str:
        """The output of `docker compose …`."""
        return self.run([*self._compose, *arguments], timeout)

    def docker(self, *arguments: str, timeout: float = 120) -> str:
        """The output of `docker …`."""
        return self.run(["docker", *arguments], timeout)

    def config(self) -> dict[str, Any]:
        """The file as Compose reads it."""
        shown: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return shown

    def up(self, *arguments: str) -> float:
        """`up --wait`; the seconds that it took."""
        began = time.monotonic()
        services = sorted(self.config()["services"].keys() - set(self._left_out))
        self.compose("up", "--wait", "--wait-timeout", str(UP_S), *arguments, *services, timeout=UP_S + 600)
        return time.monotonic() - began

    def down(self, *arguments: str) -> None:
        """`down`."""
        self.compose("down", "--timeout", str(DOWN_S), *arguments)

    def containers(self, service: str = "", *, ended: bool = False) -> list[str]:
        """The names of containers of a service, or of all."""
        options = ["--all"] if ended else []
        shown = self.compose("ps", *options, "--format", "{{.Name}}", *([service] if service else []))
        return sorted(shown.split())

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", container))
        return found[0]

    def gateways(self) -> list[str]:
        """The URLs at which gateways are published."""
        published = [self.docker("port", name, "8000/tcp").split()[0] for name in self.containers("gateway")]
        return sorted(f"http://{address}" for address in published)

    def run(self, command: list[str], timeout: float = 300) -> str:
        """The output of a command in the folder of the file, with the engine's environment."""
        done = subprocess.run(
            command,
            cwd=self.tree,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            said = f"{done.stdout.strip()[-3000:]}\n{done.stderr.strip()[-3000:]}".strip()
            raise ComposeError(f"{' '.join(command[:8])} ended with {done.returncode}:\n{said}")
        return done.stdout


def copy_tracked(tree: Path) -> None:
    """The files that git knows, as they are here, and the ones that are new."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def free_ports(count: int) -> range:
    """Ports of loopback in a row that are free."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        if first + count < 65536 and all(_is_free(port) for port in range(first, first + count)):
            return range(first, first + count)
    raise OSError(f"no {count} free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
