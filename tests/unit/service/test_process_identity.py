"""A stored pid means one process, whatever has its number now."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from shared.service import process_identity
from shared.service.parent import wait_for_end
from shared.service.process_identity import ProcessIdentity
from tests.support.harness.embedded import until

AWKWARD_NAME = "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 (2'); print(flush=True); input()"


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command or ("sleep", "600"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.fixture(params=["proc", "ps"])
def source(request, monkeypatch, tmp_path) -> Iterator[None]:
    """Both ways to find out; systems without /proc have `ps`."""
    if request.param == "ps":
        monkeypatch.setattr(process_identity, "_PROC", tmp_path)
    process_identity._namespace.cache_clear()
    yield
    process_identity._namespace.cache_clear()


@pytest.mark.usefixtures("source")
def test_a_process_lives_until_it_has_ended_even_if_nobody_waits_for_it():
    with process() as running:
        identity = ProcessIdentity.of(running.pid)
        assert identity.lives()
        assert not identity.has_ended()
        running.kill()  # from here on a zombie, until it is waited for
        until(identity.has_ended, 10, "ended")
        assert not identity.lives()
        assert not identity.send_signal(signal.SIGTERM)
        running.wait()
        assert identity.has_ended()
    assert ProcessIdentity.of(running.pid) is None


@pytest.mark.usefixtures("source")
def test_a_stranger_with_the_same_number_is_not_the_process_and_is_not_signalled():
    with process() as stranger:
        recorded = ProcessIdentity.of(stranger.pid)
        before = replace(recorded, birth=f"{recorded.birth}0")  # started at another time
        assert not before.lives()
        assert before.has_ended()
        assert not before.send_signal(signal.SIGKILL)
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.2)


@pytest.mark.usefixtures("source")
def test_a_number_alone_is_never_believed():
    with process() as stranger:
        unknown = ProcessIdentity(stranger.pid, "")
        assert not unknown.lives()
        assert not unknown.has_ended()
        assert not unknown.send_signal(signal.SIGKILL)
        assert stranger.poll() is None


@pytest.mark.usefixtures("source")
def test_a_process_is_signalled():
    with process() as running:
        assert ProcessIdentity.of(running.pid).send_signal(signal.SIGTERM)
        assert running.wait(10) == -signal.SIGTERM


@pytest.mark.usefixtures("source")
def test_of_a_process_elsewhere_nothing_is_certain():
    with process() as stranger:
        recorded = ProcessIdentity.of(stranger.pid)
        elsewhere = replace(recorded, birth=f"another-boot/pid:[1]/{recorded.birth.rpartition('/')[2]}")
        assert not elsewhere.lives()
        assert not elsewhere.has_ended()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc")
def test_the_name_of_a_process_does_not_confuse():
    with process(sys.executable, "-c", AWKWARD_NAME) as running:
        before = ProcessIdentity.of(running.pid)
        assert running.stdout.readline() == b"\n"
        assert ProcessIdentity.of(running.pid) == before == ProcessIdentity(running.pid, before.birth)


def test_the_end_of_a_parent_is_not_waited_for_when_a_stranger_has_its_number():
    with process() as stranger:
        wait_for_end(replace(ProcessIdentity.of(stranger.pid), birth="boot/pid:[1]/7"))
        assert stranger.poll() is None


def test_another_users_process_that_proc_hides_is_not_taken_for_ended(monkeypatch, tmp_path):
    recorded = ProcessIdentity.own()
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").touch()
    monkeypatch.setattr(process_identity, "_PROC", tmp_path)

    def refused(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(process_identity.os, "kill", refused)
    assert not recorded.lives()
    assert not recorded.has_ended()
