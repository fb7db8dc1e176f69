"""Which snapshots stay, what a bus has lost, and how documents of earlier formats become newer ones."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus.nats.kv import WholeBucket
from shared.bus.port import KvEntry
from shared.contracts.state import FORMAT, BucketState, ControlState, StateRecord
from shared.errors import CorruptFile, UnsupportedFormat
from shared.state.loss import losses
from shared.state.migrations import changed_values, migrate
from shared.state.reading import record_bytes, summary
from shared.state.snapshots import Snapshot, parse_state, superseded

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def snapshot(minutes: float, digest: str = "0" * 12) -> Snapshot:
    return Snapshot((NOW - timedelta(minutes=minutes)).replace(microsecond=0), "0" * 8, digest)


def document(**buckets: BucketState) -> ControlState:
    return ControlState(format=FORMAT, system="system-1", bus="bus-77b11c1e", taken_at=NOW, buckets=buckets)


def bucket(*revisions: int, revision: int | None = None) -> BucketState:
    """Records `k<revision>`."""
    records = tuple(StateRecord(key=f"k{number}", revision=number, value={}) for number in revisions)
    return BucketState(revision=max(revisions, default=0) if revision is None else revision, records=records)


def whole(*revisions: int, revision: int | None = None, unreadable: int = 0) -> WholeBucket:
    entries = tuple(KvEntry(f"k{number}", b"{}", number) for number in revisions)
    return WholeBucket(entries, max(revisions, default=0) if revision is None else revision, unreadable)


def test_the_newest_and_the_last_of_each_day_stay():
    day = 24 * 60
    found = [snapshot(minutes) for minutes in (0, 1, 2, day, day + 1, 2 * day, 2 * day + 5, 40 * day)]
    gone = superseded(found, NOW, number=2, days=30)
    assert gone == [found[2], found[4], found[6], found[7]]


@given(st.lists(st.floats(0, 100_000), max_size=40), st.integers(1, 10), st.integers(0, 60))
def test_the_newest_always_stays_and_what_stays_is_bounded(minutes, number, days):
    found = sorted({snapshot(one) for one in minutes}, reverse=True)
    gone = superseded(found, NOW, number=number, days=days)
    stay = [one for one in found if one not in gone]
    assert stay[:number] == found[:number]
    assert len(stay) <= number + days + 1


def test_a_name_says_when_of_which_bus_and_what():
    one, later = (
        Snapshot.of(document(A=bucket(1))),
        Snapshot.of(document(A=bucket(1)).model_copy(update={"llmos": "9"})),
    )
    assert one == later, "the program that wrote it changes nothing"
    assert Snapshot.parse(one.document) == one == Snapshot.parse(str(one))
    assert one.bus == "77b11c1e"
    assert Snapshot.of(document(A=bucket(2))) != one
    assert Snapshot.parse("monday.tar") is None


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        (bucket(1, 2), whole(1, 2), None),
        (bucket(1, 2), whole(2, revision=3), None),
        (bucket(1, 2), whole(2, revision=2), "X has lost 1 record (without k1)"),
        (bucket(1, 2, 3), whole(3, revision=4), "X has lost 2 records (without k1, k2)"),
        (bucket(1, 2, 3), whole(1), "X is at change 1 and was at 3 (without k2, k3)"),
        (bucket(1, revision=5), whole(1), "X is at change 1 and was at 5"),
        (bucket(*range(1, 7)), whole(), "X is at change 0 and was at 6 (without k1, k2, k3 and 3 more)"),
        (None, whole(1, unreadable=2), "2 records of X can't be read"),
        (None, whole(), None),
    ],
)
def test_what_a_bucket_has_lost(before, now, sentence):
    found = losses(document(X=before) if before else None, {"X": now})
    assert found == ([sentence] if sentence else [])


def test_migrations_follow_one_another_up_to_the_format_asked_for():
    def add(name):
        return lambda state: changed_values(state, "X", lambda value: {**value, name: 1})

    old = document(X=bucket(1)).model_copy(update={"format": 3})
    new = migrate(old, {3: add("a"), 4: add("b"), 5: add("c")}, to=5)
    assert (new.format, new.records("X")[0].value) == (5, {"a": 1, "b": 1})
    assert migrate(new, {}, to=5) == new


def test_a_deployment_of_before_formats_gets_its_revision():
    record = StateRecord(key="chat", revision=4, value={"name": "chat", "generation": 7})
    old = document(LLMOS_DEPLOYMENTS=BucketState(revision=4, records=(record,))).model_copy(update={"format": 0})
    assert migrate(old).records("LLMOS_DEPLOYMENTS")[0].value == {"name": "chat", "revision": 7}


def test_a_later_document_is_refused_by_name_and_a_damaged_one_named():
    later = document().model_copy(update={"format": FORMAT + 1, "llmos": "7.8.9"})
    with pytest.raises(UnsupportedFormat, match=r"monday has format \d+, written by LLMOS 7\.8\.9"):
        parse_state(later.encode(), "monday")
    with pytest.raises(CorruptFile, match="monday can't be read"):
        parse_state(b'{"format": 1, "buckets": 3}', "monday")


def test_what_is_no_json_travels_too():
    record = StateRecord(key="k", revision=1, value={"base64": "AAH/"})
    assert record_bytes(record) == b"\0\1\xff"


def test_a_summary_counts_in_words():
    models = BucketState(
        records=(StateRecord(key="m", revision=1, value={"name": "m", "aliases": {"a": 1, "b": 1}}),)
    )
    assert summary(document(LLMOS_MODELS=models, LLMOS_TENANTS=bucket(1, 2))) == "1 model, 2 API keys, 2 aliases"
    assert summary(document()) == "nothing"
