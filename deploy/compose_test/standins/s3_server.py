"""SeaweedFS in MinIO's place: MinIO's command line, and three calls of its admin API; a stand-in for tests.

`s3_server.py server DIR` with MINIO_ROOT_USER and MINIO_ROOT_PASSWORD. Requests of S3 go to SeaweedFS as they came.
`add-canned-policy`, `add-user` and `set-user-or-group-policy` change the file of its users and policies, which
SeaweedFS then enforces; it is started again for the first request of S3 after a change.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from minio.crypto import decrypt

ADMIN = "/minio/admin/v3/"
PORT, BACKEND = 9000, 9010
_WORK = Path("/tmp/s3")  # noqa: S108  # in a container
_CHUNK = 1 << 20
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class Accounts:
    """The users and policies, kept in a file beside the objects."""

    def __init__(self, file: Path, root: str, password: str) -> None:
        self._file, self._root, self.password = file, root, password
        empty: dict[str, dict[str, object]] = {"policies": {}, "users": {}, "granted": {}}
        self.state = json.loads(file.read_text()) if file.exists() else empty
        self.lock = threading.Lock()
        self.changed = False
        """Whether SeaweedFS has yet to read it."""

    def change(self, part: str, name: str, value: object) -> bool:
        """Set it; whether that changed anything."""
        if self.state[part].get(name) == value:
            return False
        self.state[part][name] = value
        self._file.write_text(json.dumps(self.state))
        return True

    def write(self, identities: Path, access: Path) -> None:
        """Both files as SeaweedFS reads them."""
        users = [
            {
                "name": name,
                "credentials": [{"accessKey": name, "secretKey": secret}],
                "policyNames": [self.state["granted"].get(name, "none")],
            }
            for name, secret in self.state["users"].items()
        ]
        root = {
            "name": "root",
            "credentials": [{"accessKey": self._root, "secretKey": self.password}],
            "actions": ["Admin"],
        }
        identities.write_text(json.dumps({"identities": [root, *users]}))
        policies = [{"name": name, "document": document} for name, document in self.state["policies"].items()]
        access.write_text(
            json.dumps(
                {
                    "sts": {
                        "tokenDuration": "1h",
                        "maxSessionLength": "12h",
                        "issuer": "seaweedfs-sts",
                        "signingKey": "c3RhbmQtaW4gc2lnbmluZyBrZXksIG5ldmVyIHVzZWQh",
                    },
                    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
                    "policies": policies,
                }
            )
        )


class Weed:
    """The process of SeaweedFS."""

    def __init__(self, data: str, accounts: Accounts) -> None:
        self._data, self._accounts = data, accounts
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        identities, access = _WORK / "identities.json", _WORK / "iam.json"
        self._accounts.write(identities, access)
        self._process = subprocess.Popen(
            [
                "weed",
                "-logtostderr=true",
                "mini",
                f"-dir={self._data}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-admin.ui=false",
                "-webdav=false",
                "-master.telemetry=false",
                f"-s3.port={BACKEND}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                f"-s3.config={identities}",
                f"-s3.iam.config={access}",
            ],
            cwd=_WORK,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", BACKEND, timeout=2)
                connection.request("GET", "/")
                if connection.getresponse().status < 500:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit("SeaweedFS did not start")

    def stop(self) -> None:
        """Let it write what it has."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Front(BaseHTTPRequestHandler):
    """What listens on MinIO's port."""

    protocol_version = "HTTP/1.1"
    accounts: Accounts
    weed: Weed

    def _serve(self) -> None:
        if self.path.startswith(ADMIN):
            self._admin()
        else:
            self._pass_on()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # http.server's names

    def _admin(self) -> None:
        url = urlsplit(self.path)
        call, asked = url.path.removeprefix(ADMIN), {name: one[0] for name, one in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        signed_by_root = f"Credential={os.environ['MINIO_ROOT_USER']}/" in self.headers.get("authorization", "")
        if not signed_by_root:
            self._answer(403, b'{"Code": "AccessDenied", "Message": "Access Denied."}')
            return
        with self.accounts.lock:
            if call == "add-canned-policy":
                changed = self.accounts.change("policies", asked["name"], json.loads(body))
            elif call == "add-user":
                plain = decrypt(_Whole(body), self.accounts.password)  # type: ignore[arg-type]  # what it calls is there
                changed = self.accounts.change("users", asked["accessKey"], json.loads(plain)["secretKey"])
            elif call == "set-user-or-group-policy":
                changed = self.accounts.change("granted", asked["userOrGroup"], asked["policyName"])
            else:
                self._answer(501, b'{"Code": "NotImplemented", "Message": "not in this stand-in"}')
                return
            self.accounts.changed |= changed
        self._answer(200, b"")

    def _read_accounts(self) -> None:
        with self.accounts.lock:
            if self.accounts.changed:
                self.weed.stop()
                self.weed.start()
                self.accounts.changed = False

    def _pass_on(self) -> None:
        self._read_accounts()
        backend = http.client.HTTPConnection("127.0.0.1", BACKEND, timeout=120)
        try:
            backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    backend.putheader(name, value)
            backend.endheaders()
            left = int(self.headers.get("content-length", 0))
            while left:
                piece = self.rfile.read(min(left, _CHUNK))
                if not piece:
                    return
                backend.send(piece)
                left -= len(piece)
            answer = backend.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            if answer.length is None and self.command != "HEAD":
                self.send_header("connection", "close")
                self.close_connection = True
            self.end_headers()
            while self.command != "HEAD" and (piece := answer.read(_CHUNK)):
                self.wfile.write(piece)
        except OSError as error:
            self.close_connection = True
            print(f"{self.command} {self.path}: {error}", file=sys.stderr)
        finally:
            backend.close()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line for each request."""


class _Whole:
    """Bytes in the form of a response, as the client's `decrypt` reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, amount: int | None = None) -> bytes:
        """The next `amount` bytes."""
        amount = len(self._data) if amount is None else amount
        piece, self._data = self._data[:amount], self._data[amount:]
        return piece

    def close(self) -> None:
        """Nothing is open."""

    def release_conn(self) -> None:
        """Nothing is held."""


def main() -> None:
    """Serve until SIGTERM."""
    if len(sys.argv) < 3 or sys.argv[1] != "server":
        sys.exit("usage: s3_server.py server DIR")
    _WORK.mkdir(parents=True, exist_ok=True)
    data = sys.argv[2]
    accounts = Accounts(
        Path(data, "stand-in-accounts.json"), os.environ["MINIO_ROOT_USER"], os.environ["MINIO_ROOT_PASSWORD"]
    )
    weed = Weed(data, accounts)
    weed.start()
    Front.accounts, Front.weed = accounts, weed
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Front)  # noqa: S104  # in a container
    server.daemon_threads = True

    def end(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever()
    weed.stop()


if __name__ == "__main__":
    main()
