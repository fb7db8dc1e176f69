import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.errors import NotFound
from shared.service.supervise import Child, ChildSpec, describe_exit
from tests.support.harness.processes import is_alive
from tests.support.harness.wait import eventually

REPOSITORY = Path(__file__).parents[3]

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""

OBEDIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopped in order", flush=True), sys.exit(0)))
print("listening", flush=True)
time.sleep(600)
"""

FAMILY = """
import asyncio, sys
from shared.service.supervise import Child, ChildSpec

async def main():
    child = Child(ChildSpec("child", tuple(sys.argv[2:])))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


def pid_of(child: Child) -> int:
    assert child.pid is not None
    return child.pid


async def test_a_child_that_dies_is_started_again_and_says_how_it_died():
    changes = []
    child = Child(ChildSpec("sleeper", ("sleep", "600")), on_change=lambda c: changes.append((c.running, c.restarts)))
    await child.start()
    try:
        first = pid_of(child)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: child.running and child.pid != first)
        assert child.restarts == 1
        assert child.last_exit == "killed by SIGKILL"
        assert changes == [(True, 0), (False, 0), (True, 1)]
    finally:
        await child.stop()
    assert changes[-1] == (False, 1)


async def test_a_child_that_ends_by_itself_is_started_again_even_with_code_0():
    child = Child(ChildSpec("brief", ("true",)))
    await child.start()
    await eventually(lambda: child.restarts >= 1)
    assert child.last_exit == "exited with code 0"
    await child.stop()


async def test_the_pause_between_starts_grows():
    starts = []
    child = Child(ChildSpec("brief", ("false",)), on_change=lambda c: c.running and starts.append(time.monotonic()))
    await child.start()
    await eventually(lambda: len(starts) == 4 and not child.running)
    await child.stop()
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses[0] >= 0.2
    assert pauses[1] >= 0.4
    assert pauses[2] >= 0.8
    assert child.last_exit == "exited with code 1"


async def test_stop_lets_the_child_end_in_order(tmp_path):
    log = tmp_path / "logs" / "child.log"
    child = Child(ChildSpec("obedient", python(OBEDIENT), log=log))
    await child.start()
    await eventually(lambda: "listening" in log.read_text())
    await child.stop()
    assert not child.running
    assert child.last_exit == "exited with code 0"
    assert log.read_text().endswith("stopped in order\n")


async def test_stop_kills_a_child_that_does_not_listen(tmp_path):
    log = tmp_path / "child.log"
    child = Child(ChildSpec("stubborn", python(STUBBORN), log=log, stop_timeout=0.3))
    await child.start()
    await eventually(lambda: "deaf" in log.read_text())
    pid = pid_of(child)
    await child.stop()
    assert child.last_exit == "killed by SIGKILL"
    assert not is_alive(pid)


async def test_stop_while_waiting_to_start_again_starts_nothing():
    child = Child(ChildSpec("brief", ("false",)))
    await child.start()
    await eventually(lambda: not child.running)
    await child.stop()
    assert not child.running
    assert child.restarts == 0


async def test_stop_twice_at_once_and_before_the_start_does_no_harm():
    child = Child(ChildSpec("sleeper", ("sleep", "600")))
    await child.stop()
    child = Child(ChildSpec("sleeper", ("sleep", "600")))
    await child.start()
    await asyncio.gather(child.stop(), child.stop())
    await child.stop()
    assert child.last_exit == "killed by SIGTERM"


async def test_a_stop_that_is_cancelled_kills_the_child(tmp_path):
    log = tmp_path / "child.log"
    child = Child(ChildSpec("stubborn", python(STUBBORN), log=log))
    await child.start()
    await eventually(lambda: "deaf" in log.read_text())
    pid = pid_of(child)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(child.stop(), timeout=0.1)
    await eventually(lambda: not is_alive(pid))


async def test_what_a_dead_child_leaves_in_its_process_group_is_killed(tmp_path):
    log = tmp_path / "child.log"
    child = Child(ChildSpec("shell", ("sh", "-c", "sleep 600 & echo $!; wait"), log=log))
    await child.start()
    left = int(await eventually(lambda: log.read_text().strip()))
    os.kill(pid_of(child), signal.SIGKILL)
    await eventually(lambda: not is_alive(left))
    await child.stop()


async def test_output_is_appended_over_restarts_and_the_environment_is_added(tmp_path):
    log = tmp_path / "child.log"
    child = Child(ChildSpec("talker", ("sh", "-c", "echo $WORD; echo oops >&2"), env={"WORD": "hello"}, log=log))
    await child.start()
    await eventually(lambda: log.read_text().count("hello\noops\n") >= 2)
    await child.stop()


async def test_a_childs_environment_has_its_restarts(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_RESTARTS", "7")  # the supervisor's own
    log = tmp_path / "child.log"
    child = Child(ChildSpec("counter", ("sh", "-c", "echo start $LLMOS_RESTARTS"), log=log))
    await child.start()
    await eventually(lambda: log.read_text().startswith("start 0\nstart 1\n"))
    await child.stop()


async def test_the_supervisor_s_instance_name_is_not_its_child_s(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_INSTANCE", "inference-1")
    log = tmp_path / "child.log"
    child = Child(ChildSpec("talker", ("sh", "-c", "echo ${LLMOS_INSTANCE:-none} $LLMOS_PARENT_PID"), log=log))
    await child.start()
    await eventually(lambda: log.read_text().startswith(f"none {os.getpid()}\n"))
    await child.stop()


async def test_a_listener_that_fails_does_not_end_the_supervision():
    def fail(_child):
        raise ValueError("listener")

    child = Child(ChildSpec("brief", ("true",)), on_change=fail)
    await child.start()
    await eventually(lambda: child.restarts >= 1)
    await child.stop()


async def test_a_program_that_does_not_exist_is_said_at_start():
    child = Child(ChildSpec("ghost", ("no-such-program", "--now")))
    with pytest.raises(NotFound, match="ghost: there is no program 'no-such-program'"):
        await child.start()
    await child.stop()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_kill_9_of_the_supervisor_leaves_no_child_and_no_grandchild(loop):
    middle = python(FAMILY, loop, "sleep", "600")
    supervisor = subprocess.Popen(python(FAMILY, loop, *middle), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        family: list[int] = []

        def two_generations() -> bool:
            family[:] = [each.pid for each in psutil.Process(supervisor.pid).children(recursive=True)]
            names = [each.name() for each in psutil.Process(supervisor.pid).children(recursive=True)]
            return "sleep" in names and len(family) == 2

        await eventually(two_generations)
    finally:
        supervisor.kill()
        supervisor.communicate()
    await eventually(lambda: not any(map(is_alive, family)), timeout=5)


def test_an_exit_code_in_words():
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-15) == "killed by SIGTERM"
    assert describe_exit(-64) == "killed by SIGRTMAX"
    assert describe_exit(-63) == "killed by signal 63"
