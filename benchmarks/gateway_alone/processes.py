"""nats-server, a gateway and the replica, started and stopped."""

import asyncio
import base64
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks.gateway_alone.replica import MODEL
from benchmarks.serving.client import ChatClient
from shared.bus.access.provision import make_all, owner

KEY = "llmos-" + base64.urlsafe_b64encode(b"k" * 32).rstrip(b"=").decode()
GATEWAY = (sys.executable, "-P", "-m", "services.gateway")
START_S = 60.0


@asynccontextmanager
async def nats_server(work: Path) -> AsyncIterator[str]:
    """A server with JetStream in `work`, and all streams and buckets; its URL."""
    port = _free_port()
    url = f"nats://127.0.0.1:{port}"
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    with _running(binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(work / "jetstream")):
        async with owner(url, timeout=START_S, leases_in_memory=True) as bus:
            await make_all(bus)
        yield url


@asynccontextmanager
async def gateway(
    nats: str, work: Path, *, step_s: float, command: Sequence[str] = GATEWAY
) -> AsyncIterator[tuple[int, str]]:
    """A gateway that answers; (its process id, its URL).

    Args:
        nats: The URL of the bus.
        work: For its key.
        step_s: Seconds between two tokens of an answer; 0: they come as fast as the bus takes them.
        command: Starts it.
    """
    port = _free_port()
    key_file = work / "admin.key"
    key_file.write_text(KEY)
    environment = {
        **os.environ,
        "LLMOS_NATS_URL": nats,
        "LLMOS_GATEWAY_PORT": str(port),
        "LLMOS_GATEWAY_GRPC_PORT": "off",
        "LLMOS_GATEWAY_ADMIN_KEY_FILE": str(key_file),
        "LLMOS_LOG_LEVEL": "warning",
    }
    url = f"http://127.0.0.1:{port}"
    client = ChatClient(url, MODEL, KEY)
    with (
        _running(sys.executable, "-m", "benchmarks.gateway_alone.replica", str(step_s), env=environment) as replica,
        _running(*command, env=environment) as process,
    ):
        deadline = time.monotonic() + START_S
        while not (await client.chat([{"role": "user", "content": "words"}], max_tokens=2)).ok:
            ended = next(
                (
                    name
                    for name, each in (("the replica", replica), ("the gateway", process))
                    if each.poll() is not None
                ),
                None,
            )
            if ended or time.monotonic() > deadline:
                raise SystemExit(f"{ended} ended" if ended else f"the gateway does not answer: {' '.join(command)}")
            await asyncio.sleep(0.1)
        yield process.pid, url


@contextmanager
def _running(*command: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
