import os
import subprocess

import pytest

from shared.service import health_file
from shared.service.python import python_module


def check(path) -> tuple[int, str]:
    """The health check as a container runs it: exit code and what it says."""
    done = subprocess.run(
        python_module("shared.service.health_file"),
        env={**os.environ, "LLMOS_HEALTH_FILE": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def test_a_process_that_says_ready_is_healthy(tmp_path):
    health_file.write(tmp_path / "health", ())
    assert check(tmp_path / "health") == (0, "ready")


def test_the_check_prints_why_a_process_cannot_serve(tmp_path):
    health_file.write(tmp_path / "health", ("bus: not connected", "store: the bucket is gone"))
    assert check(tmp_path / "health") == (1, "bus: not connected; store: the bucket is gone")


def test_a_process_that_never_wrote_is_not_healthy(tmp_path):
    code, said = check(tmp_path / "health")
    assert code == 1
    assert "not written yet" in said


@pytest.mark.parametrize(("age", "healthy"), [(1, True), (60, False)])
def test_a_file_that_is_no_longer_written_is_that_of_a_hanging_process(tmp_path, age, healthy):
    path = tmp_path / "health"
    health_file.write(path, ())
    assert (health_file.problem(path, path.stat().st_mtime + age) is None) == healthy


def test_writing_leaves_no_other_file(tmp_path):
    health_file.write(tmp_path / "health", ())
    health_file.write(tmp_path / "health", ("start: starting",))
    assert [path.name for path in tmp_path.iterdir()] == ["health"]
