"""`llmos status` answers at once, whatever has stopped, and calls unknown what is unknown."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.support.harness.embedded import Embedded, until


@contextmanager
def stopped(system: Embedded, service: str) -> Iterator[None]:
    """A service's process with SIGSTOP, as on a machine that swaps or a disk that hangs."""
    (process,) = [
        child
        for child in psutil.Process(system.pid).children(recursive=True)
        if f"services.{service}" in child.cmdline()
    ]
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[Embedded]:
    with Embedded(tmp_path_factory.mktemp("system") / "home", demo=False) as running:
        yield running


@pytest.mark.parametrize(
    ("service", "unknown", "known"),
    [("scheduler", "deployments: unknown", "SERVICE"), ("monitor", "instances: unknown", "")],
)
def test_what_a_stopped_service_knows_is_unknown_and_the_rest_is_shown(system, service, unknown, known) -> None:
    until(lambda: system.cli("status").returncode == 0, 30, "status knows all")
    alone = min(_timed(system) for _ in range(3))
    with stopped(system, service):
        begun = time.monotonic()
        done = system.cli("status")
        took = time.monotonic() - begun
        assert done.returncode == 1
        assert unknown in done.stderr
        assert "did not answer in time" in done.stderr
        assert known in done.stdout
        assert took < alone + 6, "no timeout of minutes"
        assert json.loads(system.cli("status", "--json").stdout)["unknown"]
    until(lambda: system.cli("status").returncode == 0, 30, "status knows all again")


def _timed(system: Embedded) -> float:
    begun = time.monotonic()
    system.cli("status")
    return time.monotonic() - begun
