"""`llmos up` and `down` beside what they must not touch, and below a parent that never waits for its children."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.home import Home, SystemState
from shared.service.process_identity import ProcessIdentity
from tests.support.harness.embedded import Embedded, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TRAP = "open({ran!r}, 'w').close()\nraise SystemExit('code of the current folder was run')\n"


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with modules that must not run; `RAN` is there if one did."""
    folder = tmp_path / "trapped"
    for name in ("secrets", "services/__init__", "services/gateway/__init__", "services/gateway/__main__", "json"):
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TRAP.format(ran=str(folder / "RAN")))
    return folder


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        assert process.poll() is None, "a stranger's process was ended"
        process.kill()


def left_by_a_killed_system(home: Home, pid: int, birth: str) -> None:
    """The files of a system that was killed, with the pid that a stranger has now."""
    home.write_system(
        SystemState(pid=pid, birth=birth, url="http://127.0.0.1:9", nats_url="nats://127.0.0.1:9", ready=True)
    )
    home.lock_file.write_text(f'{{"pid": {pid}, "birth": "{birth}"}}')


@pytest.mark.parametrize("recorded", [True, False], ids=["other birth", "no birth"])
def test_a_strangers_process_is_not_the_system(tmp_path, stranger, recorded):
    system = Embedded(tmp_path, demo=False)
    birth = ProcessIdentity.own().birth if recorded else ""
    left_by_a_killed_system(system.home, stranger.pid, birth)
    assert "nothing runs" in system.cli("down").stdout
    status = system.cli("status")
    assert status.returncode == 1
    assert "no LLMOS runs" in status.stderr


def test_detached_start_in_a_folder_of_traps_after_a_kill(tmp_path, trapped, stranger):
    system = Embedded(tmp_path / "home", demo=False)
    left_by_a_killed_system(system.home, stranger.pid, ProcessIdentity.own().birth)
    program = str(Path(sys.executable).with_name("llmos"))  # the console script, as it is typed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def llmos(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program, *arguments, "--home", str(system.home.root)]
        return subprocess.run(command, cwd=trapped, env=environment, capture_output=True, text=True, check=False)

    started = llmos("up", "--detach", "--no-demo", "--port", str(system.port))
    try:
        assert started.returncode == 0, started.stderr
        assert "ready at" in started.stdout
        assert not (trapped / "RAN").exists()
        assert "already running" in llmos("up", "--detach", "--no-demo").stdout
    finally:
        stopped = llmos("down")
    assert stopped.stdout.strip().endswith("stopped")
    until(lambda: not system.processes(), 10, "no process left")
    assert not (trapped / "RAN").exists()


def test_down_returns_when_the_system_is_a_zombie_and_works_during_the_start(tmp_path):
    system = Embedded(tmp_path, demo=False)
    command = [*system.command, "up", "--no-demo", "--home", str(system.home.root), "--port", str(system.port)]
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(system.home.holder, 30, "the start has begun")
        assert system.home.system() is None, "the start is not over"
        began = time.monotonic()
        done = system.cli("down")
        assert done.stdout.strip().endswith("stopped"), done.stderr
        assert time.monotonic() - began < 60
        assert Path(f"/proc/{launcher.pid}").exists() or sys.platform != "linux", "it was waited for by nobody"
        assert "nothing runs" in system.cli("down").stdout
    finally:
        launcher.kill()
        launcher.wait()
    until(lambda: not system.processes(), 10, "no process left")
