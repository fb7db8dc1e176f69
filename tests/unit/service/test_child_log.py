import asyncio
import os
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from shared.service import child_log
from shared.service.child_log import cut, keep_within, open_log, previous
from shared.service.supervise import Child, ChildSpec
from tests.support.harness.wait import eventually

COUNTING = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; done")


def test_a_short_log_is_left_alone(tmp_path):
    log = tmp_path / "child.log"
    assert not cut(log)
    log.write_text("a line\n")
    assert not cut(log, limit=7)
    assert log.read_text() == "a line\n"
    assert not previous(log).exists()


def test_a_long_log_begins_anew_and_what_it_held_is_kept_once(tmp_path):
    log = tmp_path / "child.log"
    output = open_log(log)
    try:
        os.write(output, b"first\n" * 10)
        assert cut(log, limit=20)
        os.write(output, b"second\n" * 10)  # the child's descriptor goes on at the new end
        assert log.read_text() == "second\n" * 10
        assert previous(log).read_text() == "first\n" * 10
        assert cut(log, limit=20)
        assert previous(log).read_text() == "second\n" * 10
        assert log.stat().st_size == 0
    finally:
        os.close(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child.log", "child.log.1"]
    assert previous(log).stat().st_mode & 0o777 == 0o600


def test_a_copy_that_fails_loses_nothing(tmp_path):
    log = tmp_path / "child.log"
    log.write_text("kept\n" * 10)
    (tmp_path / ".child.log.1").mkdir()  # the copy can't be made
    with pytest.raises(OSError, match=r"\.child\.log\.1"):
        cut(log, limit=5)
    assert log.read_text() == "kept\n" * 10


async def test_the_files_are_looked_at_until_cancelled_and_a_failure_does_not_end_that(tmp_path):
    log = tmp_path / "child.log"
    obstacle = tmp_path / ".child.log.1"
    obstacle.mkdir()
    log.write_text("long\n" * 10)
    with capture_logs() as failures:
        task = asyncio.create_task(keep_within(log, 5, every=0.01))
        await eventually(lambda: len(failures) > 1)
    try:
        assert log.stat().st_size == 50
        obstacle.rmdir()
        await eventually(lambda: log.stat().st_size == 0)
    finally:
        task.cancel()


async def test_the_log_of_a_child_that_never_stops_talking_stays_within_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(child_log.keep_within, "__kwdefaults__", {"every": 0.02})
    log = tmp_path / "child.log"
    child = Child(ChildSpec("talker", COUNTING, log=log, log_limit=20_000))
    await child.start()
    try:
        await eventually(lambda: previous(log).exists() and log.stat().st_size > 0)
        first = previous(log).read_text()
        await eventually(lambda: previous(log).read_text() != first)
        assert previous(log).stat().st_size < 20_000_000
        whole = first.splitlines()[:-1]  # the end of the last line may be what came while it was copied
        numbers = [int(line.split()[1]) for line in whole]
        assert all(after == before + 1 for before, after in pairwise(numbers)), "lines are missing"
    finally:
        await child.stop()
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("cut the log")])
