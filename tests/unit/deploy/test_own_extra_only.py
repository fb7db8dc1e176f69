"""Each service starts with only its own extra installed."""

import subprocess
import sys

import pytest

from tests.support.harness import only_from_lock
from tests.support.harness.compose import ROOT, SERVICES


def import_service(service: str, lock: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", only_from_lock.__file__, service, str(ROOT / "requirements" / lock)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_with_only_its_own_lock_installed(service):
    done = import_service(service, f"{service}.lock")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3


def test_the_check_sees_what_is_missing():
    done = import_service("gateway", "scheduler.lock")
    assert done.returncode != 0
    assert "which is not in the lock" in done.stderr


def test_a_service_of_a_store_has_the_stores_client_in_its_lock():
    for service in ("registry", "inference", "gateway"):
        assert "minio" in only_from_lock.locked(ROOT / "requirements" / f"{service}.lock")
