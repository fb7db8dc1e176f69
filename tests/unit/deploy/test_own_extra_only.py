"""Each service, and the processes of jobs, start with only their own extra installed."""

import subprocess
import sys

import pytest

from devtools.jobs.tools import TOOLS, required
from tests.support.harness import only_from_lock
from tests.support.harness.compose import ROOT, SERVICES
from tests.support.harness.only_from_lock import normalised


def import_package(package: str, lock: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", only_from_lock.__file__, package, str(ROOT / "requirements" / lock)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_with_only_its_own_lock_installed(service):
    done = import_package(f"services.{service}", f"{service}.lock")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3


def test_jobs_import_with_only_their_own_lock_installed():
    done = import_package("devtools.jobs", "jobs.lock")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_the_libraries_of_every_kind_of_job_but_pytorch_are_in_the_locks_of_the_image():
    locks = ("jobs.lock", "train.lock")
    locked = set().union(*(only_from_lock.locked(ROOT / "requirements" / lock) for lock in locks))
    needed = {name for kind in TOOLS.values() for extra in kind.extras for name in required(extra)}
    assert {normalised(name) for name in needed} - locked == {"torch"}
    assert "torch" not in only_from_lock.locked(ROOT / "requirements" / "jobs.lock")


def test_the_check_sees_what_is_missing():
    done = import_package("services.gateway", "scheduler.lock")
    assert done.returncode != 0
    assert "which is not in the lock" in done.stderr


def test_a_service_of_a_store_has_the_stores_client_in_its_lock():
    for service in ("registry", "inference", "gateway", "jobs"):
        assert "minio" in only_from_lock.locked(ROOT / "requirements" / f"{service}.lock")
