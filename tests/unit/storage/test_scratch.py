"""Temporary folders of killed processes are removed, those of living ones never."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.storage.scratch import held, remove_abandoned_folders, scratch_folder

HOLDER = """
import sys
from pathlib import Path
from shared.storage.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "work-") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "weights").write_bytes(bytes(1000))
    print(folder, flush=True)
    input()
"""


@contextmanager
def holder(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a scratch folder."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_a_folder_is_removed_at_the_end_and_after_an_error(tmp_path):
    with scratch_folder(tmp_path, "work-") as folder:
        (folder / "file").touch()
    assert not folder.exists()
    with pytest.raises(RuntimeError), scratch_folder(tmp_path, "work-") as folder:
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_uses_stays(tmp_path):
    with holder(tmp_path) as (living, used), holder(tmp_path) as (killed, left):
        killed.kill()
        killed.wait()
        assert left.exists()
        with scratch_folder(tmp_path, "work-") as own:
            assert not left.exists()
            assert (used / "deep/weights").exists()
            assert remove_abandoned_folders(tmp_path, "work-") == []
            assert own.exists()
        living.communicate("done\n")
        assert not used.exists()


def test_foreign_names_files_and_links_stay(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    parent = tmp_path / "parent"
    (parent / "other").mkdir(parents=True)
    (parent / "work-file").touch()
    (parent / "work-link").symlink_to(outside)
    (parent / "work-left").mkdir()
    assert remove_abandoned_folders(parent, "work-") == [parent / "work-left"]
    assert sorted(path.name for path in parent.iterdir()) == ["other", "work-file", "work-link"]
    assert outside.exists()
    assert remove_abandoned_folders(tmp_path / "none", "work-") == []


def test_folders_of_other_users_stay(tmp_path, monkeypatch):
    (tmp_path / "work-left").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert remove_abandoned_folders(tmp_path, "work-") == []
    assert (tmp_path / "work-left").exists()


def test_age_counts_where_asked(tmp_path):
    now = 1_800_000_000.0
    for name, age in (("old", 100), ("new", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        for path in (tmp_path / name / "file", tmp_path / name):
            os.utime(path, (now - age, now - age))
    os.utime(tmp_path / "new", (now - 100, now - 100))  # a file was written since
    assert remove_abandoned_folders(tmp_path, unchanged_since=now - 50) == [tmp_path / "old"]


def test_a_held_folder_is_for_one_process_at_a_time(tmp_path):
    folder = tmp_path / "a" / "b"
    with held(folder):
        assert folder.is_dir()
        assert remove_abandoned_folders(folder.parent) == []
        with pytest.raises(BlockingIOError), held(folder):
            pass
    with held(folder):
        pass
    assert remove_abandoned_folders(folder.parent) == [folder]
