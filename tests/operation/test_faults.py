"""What an ordinary week brings, under load: what fails, what is said about it, and that all is whole again by itself.

`python -m benchmarks.faults` measures the same faults for longer.
"""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from benchmarks.faults.faults import all_stopped, full_disk, memory_at_its_limit, read_only, stopped
from benchmarks.faults.load import Load, under_load
from benchmarks.faults.system import System, small_disk, system, until
from llmos.cli.demo import NAME
from shared.deadlines import LEASE_TTL_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("operation")]

WHOLE_S = 180.0
"""On a busy machine. How long it takes on a quiet one is in docs/operations.md."""
STOPPED_S = LEASE_TTL_S + 3
"""Longer than any sign of life may be missing before it is acted on, but for the restart of a replica."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[System]:
    try:
        with (
            small_disk(tmp_path_factory.mktemp("operation") / "disk", 600 << 20) as disk,
            system(disk / "home") as running,
        ):
            yield running
    except PermissionError as error:
        pytest.skip(f"NOTHING OF OPERATION IS TESTED HERE: {error}")


@pytest.fixture
def whole(home: System) -> System:
    if home.replicas != 1:
        home.scale(1)
    until(home.whole, WHOLE_S, "whole before the fault")
    return home


def is_whole_again(home: System) -> None:
    until(home.whole, WHOLE_S, f"whole again; {home.cli('status').stdout}")


def get(home: System, path: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {home.key}"}
    return httpx.get(home.url + path, headers=headers, timeout=30, trust_env=False)


def ask(home: System) -> httpx.Response:
    """One more chat."""
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    headers = {"Authorization": f"Bearer {home.key}"}
    return httpx.post(f"{home.url}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)


def answers(load: Load, more: int = 4) -> None:
    """Chats are answered, from now on."""
    before = len(load.chats)
    until(lambda: len(load.chats) >= before + more, 120, "more chats")
    assert [chat.message for chat in load.chats[before:] if chat.failed] == []


def test_a_full_disk_stops_all_but_the_answers_and_what_was_refused_was_not_done(whole: System) -> None:
    bus, replica = whole.children()["nats-server"], whole.children()["replica-0"]
    names = [key["name"] for key in get(whole, "/llmos/v1/keys").json()["keys"]]
    with under_load(whole.url, whole.key, NAME) as load:
        answers(load)
        with full_disk(whole):
            summary = "telemetry, imports and changes stopped, answers go on: "
            until(lambda: summary in whole.cli("status").stdout, 60, "status says so")
            ready = get(whole, "/readyz")
            assert ready.status_code == 200, ready.text
            assert ready.json()["disk"]["stopped"] == ["telemetry", "imports", "changes"]
            metrics = get(whole, "/metrics").text
            assert 'llmos_disk_stopped{use="changes"} 1.0' in metrics
            assert re.search(r"^llmos_disk_free_bytes \d", metrics, re.MULTILINE)
            for command in (
                ("deploy", NAME, "--name", "refused", "--allow-unplaced"),
                ("deploy", NAME, "--slots", "3"),
                ("key", "create", "refused"),
            ):
                done = whole.cli(*command)
                assert done.returncode == 1, done.stdout
                assert "nothing was changed: " in done.stderr
                assert "for changes 12.0 MiB must be free; free some space" in done.stderr
            _goes_on_for(load, 2 * LEASE_TTL_S)
        is_whole_again(whole)
        until(lambda: whole.children()["nats-server"] != bus, 60, "the bus was restarted, and writes again")
        is_whole_again(whole)
        answers(load)
    _only_the_restart_of_the_bus_was_felt(load)
    assert whole.children()["replica-0"] == replica, "the replica was never taken for dead"
    deployments = get(whole, "/llmos/v1/deployments").json()["deployments"]
    assert [one["deployment"]["name"] for one in deployments] == [NAME]
    assert deployments[0]["deployment"]["options"]["slots"] != 3
    assert [key["name"] for key in get(whole, "/llmos/v1/keys").json()["keys"]] == names
    assert whole.cli("key", "create", "after").returncode == 0
    _traces_are_stored(whole)


def _only_the_restart_of_the_bus_was_felt(load: Load) -> None:
    """At most by a chat of each client that was on its way to a replica at that moment."""
    assert all("the gateway has lost its message bus" in message for message in load.messages), load.messages
    assert len(load.failed) <= 2


def _goes_on_for(load: Load, seconds: float) -> None:
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        answers(load)


def _traces_are_stored(home: System) -> None:
    trace = ask(home).headers["x-trace-id"]
    until(lambda: get(home, f"/llmos/v1/traces/{trace}").status_code == 200, 60, "traces are stored again")


def test_a_home_that_can_only_be_read_says_so_and_goes_on_answering(whole: System) -> None:
    with under_load(whole.url, whole.key, NAME) as load:
        with read_only(whole):
            until(
                lambda: "can't be written: read-only file system" in whole.cli("status").stdout, 60, "status says so"
            )
            done = whole.cli("key", "create", "refused")
            assert done.returncode == 1
            assert f"nothing was changed: {whole.home.root}" in done.stderr
            assert "can't be written: read-only file system" in done.stderr
            _goes_on_for(load, LEASE_TTL_S)
        is_whole_again(whole)
        until(lambda: whole.cli("key", "create", "after").returncode == 0, 60, "changes are made again")
        answers(load)
    _only_the_restart_of_the_bus_was_felt(load)


def test_the_only_replica_that_is_stopped_is_named_and_replaced(whole: System) -> None:
    """One sentence for status, for users and in the log."""
    replica = whole.children()["replica-0"]
    with under_load(whole.url, whole.key, NAME) as load, stopped("replica-0", goes_on=False)(whole):
        waiting = {"status": "/llmos/v1/deployments", "users": ""}

        def look() -> bool:
            for who, path in list(waiting.items()):
                text = (get(whole, path) if path else ask(whole)).text
                if re.search(r"silent for \d+ s; it is restarted after 15 s", text):
                    del waiting[who]
            return not waiting

        until(look, 60, "status and users are told")
        until(lambda: whole.children().get("replica-0", replica) != replica, 120, "another process")
        is_whole_again(whole)
        answers(load)
    log = (whole.home.logs / "inference.log").read_text()
    assert "silent for" in log
    assert "was silent for 15 s" in log
    assert not any("not placed" in message or "no replica is placed" in message for message in load.messages)


def test_of_two_replicas_one_that_is_stopped_costs_no_request(whole: System) -> None:
    whole.scale(2)
    with under_load(whole.url, whole.key, NAME) as load:
        answers(load)
        victim = whole.children()["replica-0"]
        with stopped("replica-0", goes_on=False)(whole):
            until(lambda: victim not in whole.children().values(), 120, "the stopped process is ended")
            is_whole_again(whole)
        answers(load)
    assert load.messages == [], "no chat failed"


def test_a_replica_that_the_system_kills_for_memory_is_named_and_replaced(whole: System) -> None:
    replica = whole.children()["replica-0"]
    with ExitStack() as stack:
        load = stack.enter_context(under_load(whole.url, whole.key, NAME))
        answers(load)
        try:
            stack.enter_context(memory_at_its_limit(whole))
        except PermissionError as error:
            pytest.skip(f"NO LIMIT OF MEMORY IS TESTED HERE: {error}")
        until(lambda: replica not in whole.children().values(), 60, "it was killed")
        is_whole_again(whole)
        answers(load)
    log = (whole.home.logs / "inference.log").read_text()
    assert re.search(r"killed by SIGKILL: the system killed \d+ for lack of memory meanwhile", log)


@pytest.mark.parametrize("name", ["inference", "gateway", "nats-server", "launcher"])
def test_a_process_that_was_stopped_for_a_while_goes_on(whole: System, name: str) -> None:
    with stopped(name)(whole):
        _pause(STOPPED_S)
    is_whole_again(whole)


def test_all_processes_stopped_for_a_while_go_on_and_none_is_taken_for_dead(whole: System) -> None:
    before = whole.children()
    with all_stopped(whole):
        _pause(STOPPED_S)
    is_whole_again(whole)
    assert whole.children() == before


def _pause(seconds: float) -> None:
    """The fault lasts: nothing is waited for."""
    signal.sigtimedwait([], seconds)
