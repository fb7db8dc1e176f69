"""A Docker engine of one's own, in namespaces of its own.

Network, mounts and processes of the engine and of its containers are in namespaces that the kernel removes with their
last process: bridges, rules of the packet filter, mounts and containers cannot be left behind, however it ends. The
way out, for builds, is slirp4netns, which forwards from user space as for rootless Docker. Only control groups are
removed by hand.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.service.tether import tethered

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 60.0
_NAMESERVER = "10.0.2.3"
"""slirp4netns' own."""


def run_inside(engine: Path, group: str, argv: list[str]) -> int:
    """Run a program in new namespaces with a way out; its exit code. All it started has ended when this returns.

    Args:
        engine: Its files.
        group: Name of the control groups that `running` makes; they are removed.
        argv: The program, and its arguments.
    """
    into = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]
    inside = subprocess.Popen(tethered(*into), env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL)
    out = None
    try:
        _until(lambda: _namespace(inside.pid) != _namespace(os.getpid()), "the namespaces are there")
        slirp = [
            str(engine / "usr/bin/slirp4netns"),
            "--configure",
            "--disable-host-loopback",
            str(inside.pid),
            "tap0",
        ]
        out = subprocess.Popen(
            tethered(*slirp),
            env={**os.environ, "LD_LIBRARY_PATH": str(engine / "usr/lib/x86_64-linux-gnu")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return inside.wait()
    finally:
        for process in (inside, out):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        _remove_groups(group)


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def _remove_groups(name: str) -> None:
    """Remove the control groups of an engine that has ended, in each hierarchy."""
    top = Path("/sys/fs/cgroup")
    for group in [*top.glob(name), *top.glob(f"*/{name}")]:
        for folder in [*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group]:
            with suppress(OSError):
                folder.rmdir()


def environment(engine: Path, state: Path) -> dict[str, str]:
    """The environment in which `docker` speaks with this engine."""
    library = engine / "usr/lib/x86_64-linux-gnu"
    return {
        **os.environ,
        "PATH": f"{engine / 'usr/bin'}:{engine / 'usr/sbin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(library),
        "XTABLES_LIBDIR": str(library / "xtables"),
        "DOCKER_HOST": f"unix://{state / 'docker.sock'}",
        "DOCKER_CONFIG": str(engine / "docker-config"),
    }


@contextmanager
def running(engine: Path, group: str, state: Path, data: Path) -> Iterator[Mapping[str, str]]:
    """The engine, while the block runs, inside `run_inside`; yields the environment of `docker`.

    Args:
        engine: Its files.
        group: As `run_inside` has it.
        state: A folder for this run: socket, log.
        data: Its images; kept.
    """
    _prepare_network(state)
    given = environment(engine, state)
    command = [
        "dockerd",
        f"--data-root={data}",
        f"--exec-root={state / 'exec'}",
        f"--pidfile={state / 'docker.pid'}",
        f"--host={given['DOCKER_HOST']}",
        f"--cgroup-parent=/{group}",
        f"--userland-proxy-path={engine / 'usr/sbin/docker-proxy'}",
        f"--init-path={engine / 'usr/bin/docker-init'}",
    ]
    log = state / "dockerd.log"
    with log.open("wb") as file:
        daemon = subprocess.Popen(tethered(*command), env=given, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def answers() -> bool:
        if daemon.poll() is not None:
            raise OSError(f"dockerd ended with {daemon.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        return subprocess.run(["docker", "info"], env=given, capture_output=True, check=False).returncode == 0

    try:
        _until(answers, "dockerd answers", START_S)
        yield given
    finally:
        daemon.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(STOP_S)
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()


def _prepare_network(state: Path) -> None:
    """Loopback up, names resolved by slirp4netns, and its interface there."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    names = state / "resolv.conf"
    names.write_text(f"nameserver {_NAMESERVER}\n", encoding="utf-8")
    subprocess.run(["mount", "--bind", str(names), "/etc/resolv.conf"], check=True)
    _until(lambda: Path("/proc/net/route").read_text().count("tap0") > 1, "there is a way out")


def _until(true: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise OSError(f"not after {timeout:.0f} s: {what}")
        time.sleep(0.05)
