import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from shared.bus import rpc
from shared.contracts.monitor import Heartbeat
from tests.support.harness.forks import PythonForks
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer, free_port

SERVICE = """
import asyncio, sys, threading, time
from contextlib import asynccontextmanager
from pydantic import Field
from shared.errors import StorageFull
from shared.service import run
from shared.service.run import main
from shared.service.settings import ServiceSettings

run.CUT_S = run.TEARDOWN_S = 0.5

class Settings(ServiceSettings):
    behaviour: str = Field(default="", validation_alias="LLMOS_TEST_BEHAVIOUR")

@asynccontextmanager
async def app(context, settings):
    print("entered", flush=True)
    try:
        match settings.behaviour:
            case "llmos error": raise StorageFull("the disk is full: free 3 GiB")
            case "os error": raise PermissionError(13, "Permission denied", "/secret/place")
            case "bug": {}["missing"]
            case "slow start": await asyncio.sleep(600)
            case "stop itself": asyncio.get_running_loop().call_later(0.05, context.stop)
            case "stuck thread":
                threading.Thread(target=time.sleep, args=(600,), name="stuck").start()
                raise StorageFull("and a thread that never ends")
            case "stuck executor":
                asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
                asyncio.get_running_loop().call_later(0.05, context.stop)
        async with asyncio.TaskGroup() as tasks:
            if settings.behaviour == "background crash":
                async def crash():
                    await asyncio.sleep(0.05)
                    raise StorageFull("the disk is full in the background")
                tasks.create_task(crash())
            yield
            match settings.behaviour:
                case "slow drain": await asyncio.sleep(0.3)
                case "endless drain": await asyncio.sleep(600)
                case "deaf drain":
                    while True:
                        try: await asyncio.sleep(600)
                        except asyncio.CancelledError: pass
                case "blocked drain": time.sleep(600)
                case "drain bug": raise ValueError("drain went wrong")
    finally:
        print("cleaned up", flush=True)

sys.exit(main("tester", Settings, app))
"""


class Service:
    """The process, and what it says."""

    def __init__(self, forks: PythonForks, url: str, folder: Path, behaviour: str, **env: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        environment = {
            "LLMOS_NATS_URL": url,
            "LLMOS_LOG_FORMAT": "json",
            "LLMOS_TEST_BEHAVIOUR": behaviour,
            "LLMOS_PARENT_PID": str(os.getpid()),
            **env,
        }
        self.process = forks.start(SERVICE, env=environment, out=self.out, err=self.err)

    async def said(self, event: str) -> dict[str, object]:
        return await eventually(lambda: next((line for line in self.lines() if line["event"] == event), None))

    async def exit_code(self) -> int:
        await eventually(lambda: self.process.poll() is not None)
        code = self.process.poll()
        assert code is not None
        return code

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.err.read_text().splitlines()]

    @property
    def output(self) -> list[str]:
        return self.out.read_text().splitlines()


@pytest.fixture(scope="module")
def forks():
    with PythonForks("shared.service.run", "pydantic_settings", "uvloop") as started:
        yield started


@pytest.fixture
def start(forks, nats_url, tmp_path):
    started = []

    def start_service(behaviour: str = "", *, url: str = nats_url, **env: str) -> Service:
        started.append(Service(forks, url, tmp_path, behaviour, **env))
        return started[-1]

    yield start_service
    for service in started:
        service.process.kill()


async def test_a_service_says_ready_drains_on_sigterm_and_exits_0(start):
    service = start("slow drain")
    ready = await service.said("service.ready")
    assert ready["service"] == "tester"
    assert str(ready["instance"]).startswith("tester-")
    service.process.terminate()
    assert await service.exit_code() == 0
    assert service.output == ["entered", "cleaned up"]


async def test_a_service_may_stop_itself(start):
    service = start("stop itself")
    assert await service.exit_code() == 0
    assert service.output == ["entered", "cleaned up"]


async def test_a_second_sigterm_exits_at_once(start):
    service = start("endless drain")
    await service.said("service.ready")
    service.process.terminate()
    await service.said("service.draining")
    service.process.terminate()
    started = time.monotonic()
    assert await service.exit_code() == -signal.SIGTERM
    assert time.monotonic() - started < 2


async def test_a_second_sigterm_exits_at_once_even_when_the_drain_blocks_the_event_loop(start):
    service = start("blocked drain")
    await service.said("service.ready")
    service.process.terminate()
    await service.said("service.draining")
    service.process.terminate()
    assert await service.exit_code() == -signal.SIGTERM


async def test_a_drain_that_takes_too_long_is_cut_short_and_is_no_success(start):
    service = start("endless drain", LLMOS_DRAIN_TIMEOUT="0.2")
    await service.said("service.ready")
    service.process.terminate()
    assert await service.exit_code() == 1
    assert service.output == ["entered", "cleaned up"]
    assert any(line["event"] == "service.drain_timed_out" for line in service.lines())


async def test_a_drain_that_ignores_its_cancellation_ends_with_the_process(start):
    service = start("deaf drain", LLMOS_DRAIN_TIMEOUT="0.1")
    await service.said("service.ready")
    service.process.terminate()
    assert await service.exit_code() == 1
    assert service.lines()[-1]["event"] == "service.killed"


@pytest.mark.parametrize(("behaviour", "code"), [("stuck thread", 1), ("stuck executor", 0)])
async def test_a_thread_that_never_ends_does_not_keep_the_process(start, behaviour, code):
    service = start(behaviour)
    assert await service.exit_code() == code
    assert service.lines()[-1]["event"] == "service.killed"


async def test_sigterm_while_nats_is_down_drains_and_exits_0(start):
    with NatsServer() as server:
        service = start("slow drain", url=server.url)
        await service.said("service.ready")
        server.kill()
        await service.said("bus.disconnected")
        service.process.terminate()
        assert await service.exit_code() == 0
    assert service.output == ["entered", "cleaned up"]


async def test_sigterm_during_a_slow_start_cleans_up_and_exits_0(start):
    service = start("slow start")
    await eventually(lambda: service.output == ["entered"])
    service.process.terminate()
    assert await service.exit_code() == 0
    assert service.output == ["entered", "cleaned up"]


@pytest.mark.parametrize(
    ("behaviour", "event", "message"),
    [
        ("llmos error", "service.start_failed", "the disk is full: free 3 GiB"),
        (
            "os error",
            "service.start_failed",
            "PermissionError: [Errno 13] Permission denied: '/secret/place'",
        ),
        ("background crash", "service.crashed", "the disk is full in the background"),
    ],
)
async def test_a_failure_that_a_person_can_mend_is_one_line_without_a_traceback(start, behaviour, event, message):
    service = start(behaviour)
    assert await service.exit_code() == 1
    [line] = [line for line in service.lines() if line["level"] == "error"]
    assert (line["event"], line["error"]) == (event, message)
    assert "exception" not in line
    assert service.output == ["entered", "cleaned up"]


async def test_a_bug_is_one_line_with_its_traceback_in_a_field(start):
    service = start("bug")
    assert await service.exit_code() == 1
    [line] = [line for line in service.lines() if line["level"] == "error"]
    assert line["error"] == "KeyError: 'missing'"
    assert "Traceback" in str(line["exception"])


async def test_a_failed_drain_is_no_success(start):
    service = start("drain bug")
    await service.said("service.ready")
    service.process.terminate()
    assert await service.exit_code() == 1


async def test_wrong_settings_name_the_variable_and_exit_with_2(start):
    service = start(LLMOS_DRAIN_TIMEOUT="soon")
    assert await service.exit_code() == 2
    [line] = service.lines()
    assert "LLMOS_DRAIN_TIMEOUT='soon': Input should be a valid number" in str(line["error"])
    assert service.output == []


async def test_sigterm_while_there_is_no_nats_server_ends_the_service_within_its_time(start):
    service = start(url=f"nats://127.0.0.1:{free_port()}")
    await eventually(lambda: service.err.read_text() != "" or service.process.poll() is not None)
    service.process.terminate()
    code = await service.exit_code()
    assert code in {0, 1}
    assert "Traceback" not in service.err.read_text()


async def test_a_service_does_not_outlive_the_process_named_as_its_parent(start):
    parent = subprocess.Popen(["sleep", "600"])
    try:
        service = start(LLMOS_PARENT_PID=str(parent.pid))
        await service.said("service.ready")
    finally:
        parent.kill()
        parent.wait()
    assert await service.exit_code() == -signal.SIGKILL


async def test_a_service_whose_parent_is_gone_already_does_not_start(start):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not psutil.pid_exists(gone.pid)
    assert await start(LLMOS_PARENT_PID=str(gone.pid)).exit_code() == -signal.SIGKILL


async def test_a_stranger_with_the_number_of_the_parent_is_not_the_parent(start):
    stranger = {"LLMOS_PARENT_PID": str(os.getpid()), "LLMOS_PARENT_BIRTH": "boot/pid:[1]/7"}
    assert await start(**stranger).exit_code() == -signal.SIGKILL


async def test_heartbeats_report_a_start_that_takes_its_time(start, bus):
    heartbeats: list[Heartbeat] = []

    def on_heartbeat(message):
        heartbeats.append(rpc.parse(Heartbeat, message.data))

    subscription = await bus.subscribe("llmos.v1.health.tester.sleepy", on_heartbeat)
    start("slow start", LLMOS_INSTANCE="sleepy")
    await eventually(lambda: [heartbeat.reasons for heartbeat in heartbeats] == [("start: starting",)])
    await subscription.unsubscribe()


async def test_heartbeats_report_readiness_and_say_goodbye(start, bus):
    heartbeats: list[Heartbeat] = []

    def on_heartbeat(message):
        heartbeats.append(rpc.parse(Heartbeat, message.data))

    subscription = await bus.subscribe("llmos.v1.health.tester.steady", on_heartbeat)
    service = start("slow drain", LLMOS_INSTANCE="steady")
    await eventually(lambda: any(heartbeat.ready for heartbeat in heartbeats))
    count = len(heartbeats)
    await eventually(lambda: len(heartbeats) > count + 1)
    service.process.terminate()
    assert await service.exit_code() == 0
    await eventually(lambda: heartbeats[-1].leaving)
    assert any(heartbeat.reasons == ("drain: draining",) for heartbeat in heartbeats)
    assert {(heartbeat.service, heartbeat.instance, heartbeat.pid) for heartbeat in heartbeats} == {
        ("tester", "steady", service.process.pid)
    }
    await subscription.unsubscribe()


async def test_a_service_outlasts_a_kill_9_of_nats_and_is_ready_again(start):
    with NatsServer() as server:
        service = start(url=server.url)
        await service.said("service.ready")
        server.kill()
        server.start()
        await service.said("bus.reconnected")
        service.process.terminate()
        assert await service.exit_code() == 0
