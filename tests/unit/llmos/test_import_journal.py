"""The blobs of imports that ended without a version are known at the next start."""

import fcntl

import pytest

from llmos.import_journal import ImportJournal, abandoned

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_a_journal_of_an_import_that_succeeded_is_gone(tmp_path):
    with ImportJournal.opened(tmp_path) as journal:
        journal.add([A, B])
    assert list(tmp_path.iterdir()) == []


def fail(folder, *digests: str) -> None:
    """An import that is interrupted during its upload."""
    with ImportJournal.opened(folder) as journal:
        journal.add(digests)
        assert abandoned(folder) == {}
        raise KeyboardInterrupt


def test_a_journal_stays_when_the_import_fails_and_is_not_touched_while_it_runs(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path, A, B)
    (path,) = tmp_path.iterdir()
    assert abandoned(tmp_path) == {path: {A, B}}


def test_an_import_that_failed_before_its_upload_leaves_no_journal(tmp_path):
    with pytest.raises(KeyboardInterrupt), ImportJournal.opened(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_blobs_that_a_running_import_needs_stay(tmp_path):
    ended = tmp_path / "ended"
    ended.write_text(f"{A}\n{B}\n{C[:30]}")  # the last line was cut
    with ImportJournal.opened(tmp_path) as journal:
        journal.add([B, C])
        assert abandoned(tmp_path) == {ended: {A}}
    with ended.open() as locked:
        fcntl.flock(locked, fcntl.LOCK_SH)
        assert abandoned(tmp_path) == {}
