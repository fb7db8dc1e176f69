"""What stops before the disk is full, and in which order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.disk import LOOK_S, Disk, DiskUse, judge, reserve

MIB = 1 << 20
HOME = Path("/home/ann/.llmos")


def stopped(free: int, total: int = 600 * MIB) -> tuple[DiskUse, ...]:
    return judge(HOME, free=free, total=total, unwritable={}).stopped


def test_telemetry_stops_first_then_imports_then_changes() -> None:
    assert stopped(61 * MIB) == ()
    assert stopped(59 * MIB) == (DiskUse.TELEMETRY,)
    assert stopped(35 * MIB) == (DiskUse.TELEMETRY, DiskUse.IMPORTS)
    assert stopped(11 * MIB) == tuple(DiskUse)


@given(total=st.integers(1, 1 << 50), free=st.integers(0, 1 << 50))
def test_what_matters_more_never_stops_before_what_matters_less(total: int, free: int) -> None:
    order = list(DiskUse)
    assert [reserve(use, total) for use in order] == sorted((reserve(use, total) for use in order), reverse=True)
    assert stopped(free, total) == tuple(order[: len(stopped(free, total))])


def test_a_large_disk_is_not_held_back_by_a_share_of_it() -> None:
    assert stopped(1 << 30, 100 << 40) == ()


def test_the_summary_names_what_stopped_and_what_is_missing() -> None:
    assert judge(HOME, free=MIB, total=600 * MIB, unwritable={}).summary == (
        "telemetry, imports and changes stopped, answers go on: /home/ann/.llmos has 1.0 MiB free of 600.0 MiB, and"
        " for changes 12.0 MiB must be free; free some space"
    )
    assert judge(HOME, free=300 * MIB, total=600 * MIB, unwritable={}).summary is None


@pytest.mark.parametrize(
    ("folder", "uses"),
    [
        ("store", (DiskUse.IMPORTS,)),
        ("nats", (DiskUse.TELEMETRY, DiskUse.CHANGES)),
        ("logs", (DiskUse.TELEMETRY,)),
        ("", tuple(DiskUse)),
    ],
)
def test_a_folder_that_can_not_be_written_stops_what_needs_it(folder: str, uses: tuple[DiskUse, ...]) -> None:
    state = judge(HOME, free=300 * MIB, total=600 * MIB, unwritable={folder: "read-only file system"})
    assert state.stopped == uses
    assert state.problems[uses[-1]] == f"{HOME / folder} can't be written: read-only file system"


def test_a_look_is_good_for_a_moment_and_a_folder_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    now = [0.0]
    home = tmp_path / "home"
    home.mkdir()
    disk = Disk(home, clock=lambda: now[0])
    first = disk.look()
    assert first is not None
    assert first.total > 0
    assert disk.look() is first
    now[0] = LOOK_S
    home.rmdir()
    assert disk.look() is None
    assert disk.why_not(DiskUse.CHANGES) is None
    assert Disk(None).look() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_named_with_its_owner(tmp_path: Path) -> None:
    """Root may write everywhere, so another user looks."""
    home = tmp_path / "home"
    (home / "nats").mkdir(parents=True)
    os.chown(home, 65534, 65534)
    for parent in (home, *home.parents):
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):  # where pytest made them
            parent.chmod(parent.stat().st_mode | 0o055)
    look = (
        "import os, sys; from pathlib import Path; from shared.disk import Disk, DiskUse; os.setgid(65534);"
        " os.setuid(65534); print(Disk(Path(sys.argv[1])).look().problems[DiskUse.CHANGES])"
    )
    done = subprocess.run([sys.executable, "-c", look, str(home)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{home / 'nats'} can't be written: it belongs to user root, and this is user ")
