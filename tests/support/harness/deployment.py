"""The compose deployment as plain processes: its environment, its bus configuration, its entry point; no Docker."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.init_store import ACCESS, make_bucket, policy
from deploy.make_secrets import make
from shared.service.tether import tethered
from tests.support.harness.compose import ROOT, SERVICES, compose, dotenv, exec_form
from tests.support.harness.embedded import until
from tests.support.nats.server import free_port
from tests.support.s3.server import S3Server

STARTED_S = 60.0
_STOPPED_S = 60.0


class Deployment:
    """All of docker-compose.yml but Jaeger and metrics: nats-server, an S3 server with its users, the five services.

    Containers' names become loopback addresses, and folders inside containers folders of `root`; everything else is
    as Compose would have it. `with` starts it and stops it; every process must end with 0.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        make(root)
        self.secrets = dotenv((root / ".env").read_text(encoding="utf-8"))
        self.services = compose(self.secrets)["services"]
        self.gateway_port, self.nats_port = free_port(), free_port()
        self._s3 = S3Server()
        self._s3.access_key = self.services["minio"]["environment"]["MINIO_ROOT_USER"]
        self._s3.secret_key = self.services["minio"]["environment"]["MINIO_ROOT_PASSWORD"]
        set_up = self.services["init-store"]["environment"]
        self._s3.users = {
            user: (set_up[f"S3_SECRET_{user.upper()}"], policy("llmos", access)) for user, access in ACCESS.items()
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The gateway."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def admin_key(self) -> str:
        """The key that is mounted into the gateway."""
        return (self.root / "deploy/secrets/admin-key").read_text().strip()

    def bus_url(self, user: str) -> str:
        """The bus as a service reaches it."""
        return self.environment(user)["LLMOS_NATS_URL"]

    def environment(self, service: str) -> dict[str, str]:
        """What a service's container has: the variables of the image and of Compose, and no others of ours."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")}
        image = {
            "PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}",
            "SERVICE": self.services[service]["image"].removeprefix("llmos/"),
            "LLMOS_LOG_FORMAT": "json",
            "LLMOS_HEALTH_FILE": str(self.root / f"{service}.health"),
        }
        given = {name: self._outside(str(value)) for name, value in self.services[service]["environment"].items()}
        return inherited | image | {"PYTHONPATH": str(ROOT)} | given | self._ports(service)

    def _ports(self, service: str) -> dict[str, str]:
        """What is published on loopback, here without a container to listen in."""
        if service != "gateway":
            return {}
        return {
            "LLMOS_GATEWAY_HOST": "127.0.0.1",
            "LLMOS_GATEWAY_PORT": str(self.gateway_port),
            "LLMOS_GATEWAY_GRPC_PORT": "0",
        }

    def _outside(self, value: str) -> str:
        """A value with containers' names and folders replaced by those of this machine."""
        value = value.replace("/tmp/", f"{self.root}/")  # first: `root` may lie there itself
        value = re.sub(r"@nats:4222$", f"@127.0.0.1:{self.nats_port}", value)
        value = value.replace("http://minio:9000", self._s3.endpoint)
        value = value.replace("http://jaeger:4317", f"http://127.0.0.1:{free_port()}")
        value = value.replace("http://gateway:8000", self.url)
        value = value.replace("/opt/jobs/bin/python", sys.executable)
        value = value.replace("/run/secrets/", f"{self.root}/deploy/secrets/")
        value = value.replace("/run/machine", str(self.root / "machine"))
        value = value.replace("/etc/llmos/", f"{ROOT}/deploy/")
        return value.replace("/var/lib/llmos", str(self.root / "var"))

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.callback(self._kill)
            self._stack.enter_context(self._s3)
            self._start_nats()
            subprocess.run(
                self.services["init-bus"]["entrypoint"], env=self.environment("init-bus"), cwd=self.root, check=True
            )
            assert asyncio.run(make_bucket(self.environment("init-store"))) is None
            for service in SERVICES:
                self._start(service, exec_form("ENTRYPOINT"), self.environment(service))
            for service in SERVICES:
                self._until_healthy(service)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                self.stop()

    @contextmanager
    def demo(self) -> Iterator[Path]:
        """The container of LLMOS_DEMO=1 while the block runs; yields its health file."""
        *_, key = self.services["demo"]["entrypoint"]
        environment = self.environment("demo") | {"LLMOS_HOME": str(self.root / "demo-home")}
        program = [sys.executable, "-P", str(ROOT / "deploy/demo.py"), self._outside(key)]
        self._start("demo", program, environment)
        try:
            yield Path(environment["LLMOS_HEALTH_FILE"])
        finally:
            self._processes["demo"].terminate()
            self._processes.pop("demo").wait(timeout=_STOPPED_S)

    def health(self, service: str) -> tuple[bool, str]:
        """The image's health check: whether it passes, and what it says."""
        done = subprocess.run(
            exec_form("HEALTHCHECK"),
            env=self.environment(service),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode == 0, done.stdout.strip()

    def _until_healthy(self, service: str) -> None:
        def healthy() -> bool:
            assert self._processes[service].poll() is None, f"{service} ended:\n{self.log(service)[-2000:]}"
            return self.health(service)[0]

        try:
            until(healthy, STARTED_S, f"{service} is healthy")
        except AssertionError as error:
            error.add_note(f"{self.health(service)[1]}\n{self.log(service)[-2000:]}")
            raise

    def log(self, service: str) -> str:
        """What a service has written."""
        return (self.root / f"{service}.log").read_text(errors="replace")

    def pause(self, name: str) -> None:
        """Freeze a process."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Undo `pause`."""
        self._processes[name].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM to all services, then to the bus; each must end with 0."""
        for names in (SERVICES, ("nats",)):
            for name in names:
                self._processes[name].terminate()
            for name in names:
                assert self._processes[name].wait(timeout=_STOPPED_S) == 0, self.log(name)[-2000:]

    def _start_nats(self) -> None:
        """nats-server with the file of deploy/; the port and the folder of its data are this test's."""
        text = (ROOT / "deploy/nats/nats.conf").read_text(encoding="utf-8")
        for inside, outside in {
            '"host": "0.0.0.0"': '"host": "127.0.0.1"',
            '"port": 4222': f'"port": {self.nats_port}',
            '"/data"': f'"{self.root / "nats"}"',
            "127.0.0.1:8222": f"127.0.0.1:{free_port()}",
        }.items():
            assert inside in text
            text = text.replace(inside, outside)
        (self.root / "nats.conf").write_text(text, encoding="utf-8")
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert binary, "no nats-server: install the extra `dev`"
        passwords = self.services["nats"]["environment"]
        self._start("nats", [binary, "-c", str(self.root / "nats.conf")], {**os.environ, **passwords})
        until(lambda: "Server is ready" in self.log("nats"), STARTED_S, "nats-server is ready")

    def _start(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        with (self.root / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                tethered(*argv),
                env=environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _kill(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(timeout=20)
