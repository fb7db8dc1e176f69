"""A real S3 server on loopback, for tests: SeaweedFS from its wheel."""

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.service.tether import tethered

_GRPC_OFFSET = 10_000
"""Each part of SeaweedFS also listens for gRPC this far above its HTTP port."""
_PARTS = ("s3", "master", "filer", "volume", "admin")
_START_TIMEOUT = 30
_IAM = {
    "sts": {
        "tokenDuration": "1h",
        "maxSessionLength": "12h",
        "issuer": "seaweedfs-sts",
        "signingKey": "dGVzdHMgdXNlIG5vIHRlbXBvcmFyeSBjcmVkZW50aWFscw==",
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
}
"""Without it, SeaweedFS does not enforce the policies of users."""


class S3Server:
    """One process with one identity; a second of start-up and 120 MB of memory.

    Leave with `with`: the process is killed and its files are removed.
    """

    access_key = "llmos-test"
    secret_key = "llmos-test-secret"
    users: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
    """Beside the one who may do everything: the secret and the policy (AWS's IAM) of each, by access key."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="llmos-s3-"))
        self.port = 0
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """`http://host:port`."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, bucket: str) -> str:
        """A bucket as `open_store` takes it."""
        return f"s3://{bucket}?endpoint={self.endpoint}"

    @property
    def log(self) -> str:
        """What the server has written so far."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start on free ports, and wait until it answers; another process may take a port first, so try thrice."""
        for _ in range(3):
            self._launch()
            if self._answers():
                return
            self.kill()
        raise AssertionError(f"the S3 server did not start:\n{self.log}")

    def kill(self) -> None:
        """`kill -9`. No error when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None
            for port in self._ports:  # it keeps a socket in /tmp for each, whatever TMPDIR says
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        with ExitStack() as on_failure:
            on_failure.callback(self._remove)
            self.start()
            on_failure.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        ports = dict(zip(_PARTS, _free_ports(len(_PARTS)), strict=True))
        self.port = ports["s3"]
        self._ports = [each for port in ports.values() for each in (port, port + _GRPC_OFFSET)]
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        identities, access = self.folder / "identities.json", self.folder / "iam.json"
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        users = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "policyNames": [name]}
            for name, (secret, _) in self.users.items()
        ]
        admin = {"name": "test", "credentials": credentials, "actions": ["Admin"]}
        identities.write_text(json.dumps({"identities": [admin, *users]}))
        policies = [{"name": name, "document": document} for name, (_, document) in self.users.items()]
        access.write_text(json.dumps({**_IAM, "policies": policies}))
        binary = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        assert binary, "no weed: install the extra `dev`"
        arguments = [
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",  # on by default: to telemetry.seaweedfs.com
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={identities}",
            f"-s3.iam.config={access}",
            *(f"-{part}.port={port}" for part, port in ports.items()),
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered(binary, *arguments),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.request("GET", "/")
                if connection.getresponse().status < 500:  # it refuses us, as it should
                    return True
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with the ports `_GRPC_OFFSET` above them."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 45_000)
        if port not in found and _is_free(port) and _is_free(port + _GRPC_OFFSET):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
