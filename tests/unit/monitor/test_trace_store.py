import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.monitor.spans import decode_spans
from services.monitor.store import Limits, TraceStore
from shared.contracts.monitor import ListTraces
from tests.support.factories.otlp import START, make_payload, make_span

ROOT = Path(__file__).parents[3]
PLENTY = Limits(spans=10_000, bytes=10_000_000, age=3600.0)


class Clock:
    """Set by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def stored(*spans: Span):
    return decode_spans(make_payload(spans)).spans


def key(trace: int) -> bytes:
    return trace.to_bytes(16, "big")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make_store(clock):
    opened = []

    def open_store(folder=None, limits=PLENTY):
        opened.append(TraceStore(folder, limits, clock=clock))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def test_spans_come_back_by_trace_in_order_of_time(make_store):
    store = make_store()
    late, other, early = stored(make_span(1, 2, start_ms=5), make_span(2, 3), make_span(1, 1))
    assert store.add([late, other, early]) == 3
    assert store.trace(key(1)) == [early.data, late.data]
    assert store.trace(key(9)) == []
    store.check_integrity()


def test_redelivery_changes_nothing(make_store):
    store = make_store()
    spans = stored(make_span(1, 1), make_span(1, 2, parent=1))
    assert store.add(spans) == 2
    assert store.add(spans) == 0
    assert store.add([*spans, *stored(make_span(1, 3))]) == 1
    assert store.newest(ListTraces(limit=10))[0].spans == 3
    store.check_integrity()


def test_a_summary_has_root_duration_and_error(make_store):
    store = make_store()
    store.add(stored(make_span(1, 2, parent=1, name="child", start_ms=2, duration_ms=50, error=True)))
    store.add(stored(make_span(1, 1, name="root", duration_ms=20)))
    [summary] = store.newest(ListTraces(limit=10))
    assert (summary.name, summary.spans, summary.error) == ("root", 2, True)
    assert summary.duration == pytest.approx(0.020)
    assert summary.trace_id == f"{1:032x}"


def test_a_trace_that_a_client_began_is_named_after_its_first_span_here(make_store):
    store = make_store()
    store.add(
        stored(
            make_span(1, 3, parent=2, name="inner", start_ms=-1),  # a clock that is slow
            make_span(1, 2, parent=77, name="POST /v1/chat/completions"),
        )
    )
    assert store.newest(ListTraces(limit=1))[0].name == "POST /v1/chat/completions"


def test_the_newest_traces_come_first(make_store):
    store = make_store()
    store.add(stored(*(make_span(trace, 1, start_ms=trace) for trace in (2, 3, 1))))
    assert [int(summary.trace_id, 16) for summary in store.newest(ListTraces(limit=2))] == [3, 2]


@pytest.mark.parametrize("ahead_ms", [-660_000, 660_000])
def test_a_machine_with_another_clock_changes_neither_order_nor_duration(make_store, clock, ahead_ms):
    store = make_store()
    for trace in (1, 2, 3):
        clock.now += 1
        root = make_span(trace, 1, name="POST /v1/chat/completions", start_ms=1000 * trace, duration_ms=40)
        theirs = make_span(trace, 2, parent=1, name="replica", start_ms=1000 * trace + 5 + (trace == 2) * ahead_ms)
        store.add(stored(root, theirs))
    found = store.newest(ListTraces(limit=3))
    assert [int(summary.trace_id, 16) for summary in found] == [3, 2, 1]
    assert [summary.duration for summary in found] == pytest.approx([0.040] * 3)


def test_over_the_number_of_spans_the_oldest_traces_go_whole(make_store, clock):
    store = make_store(limits=Limits(spans=5, bytes=10_000_000, age=3600.0))
    for trace in (1, 2, 3):
        clock.now += 1
        store.add(stored(make_span(trace, 1), make_span(trace, 2)))
    assert store.trace(key(1)) == []
    assert len(store.trace(key(2))) == len(store.trace(key(3))) == 2
    store.check_integrity()


def test_over_the_bytes_the_oldest_traces_go(make_store, clock):
    store = make_store(limits=Limits(spans=1000, bytes=5000, age=3600.0))
    for trace in range(1, 8):
        clock.now += 1
        store.add(stored(make_span(trace, 1, padding=1000)))
    assert {int(summary.trace_id, 16) for summary in store.newest(ListTraces(limit=10))} == {4, 5, 6, 7}
    store.check_integrity()


def test_a_trace_is_forgotten_after_its_age_counted_from_its_last_span(make_store, clock):
    store = make_store(limits=Limits(spans=1000, bytes=10_000_000, age=100.0))
    store.add(stored(make_span(1, 1), make_span(2, 1)))
    clock.now += 60
    store.add(stored(make_span(1, 2)))
    clock.now += 60
    assert store.enforce_limits() == 1
    assert store.trace(key(2)) == []
    assert len(store.trace(key(1))) == 2


def test_a_store_outlives_its_process_and_knows_its_size(make_store, tmp_path, clock):
    first = make_store(tmp_path)
    first.add(stored(make_span(1, 1), make_span(1, 2)))
    # Not closed: as after kill -9.
    second = make_store(tmp_path, Limits(spans=2, bytes=10_000_000, age=3600.0))
    assert [trace.spans for trace in second.newest(ListTraces(limit=10))] == [2]
    second.check_integrity()
    clock.now += 1
    second.add(stored(make_span(2, 1)))
    assert second.trace(key(1)) == []
    second.check_integrity()


@pytest.mark.parametrize(
    "content", [b"this is not a database, it is much rather a text" * 50, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_set_aside_and_the_store_starts_anew(make_store, tmp_path, content):
    (tmp_path / "traces.db").write_bytes(content)
    store = make_store(tmp_path)
    store.add(stored(make_span(1, 1)))
    assert store.trace(key(1))
    [aside] = tmp_path.glob("traces.db.unusable-*")
    assert aside.read_bytes() == content


def request_span(trace: int, *, model: str, status: int, key_id: str, ms: int, start_ms: int = 0) -> Span:
    facts: dict[str, str | int] = {
        "http.response.status_code": status,
        "gen_ai.request.model": model,
        "llmos.api_key.id": key_id,
    }
    if status >= 400:
        facts["error.message"] = f"it was refused with {status}"
    return make_span(trace, 1, duration_ms=ms, start_ms=start_ms, attributes=facts)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"model": "small"}, [3, 1]),
        ({"status": "429"}, [2]),
        ({"status": "4xx"}, [3, 2]),
        ({"status": "error"}, [5, 4, 3, 2]),
        ({"key": "key-b"}, [4, 2]),
        ({"slower_than": 0.1}, [4, 2]),
        ({"since": 60}, [5]),
        ({"model": "large", "status": "5xx", "slower_than": 1.0}, [4]),
        ({"model": "large", "status": "200"}, []),
    ],
)
def test_traces_are_found_by_what_their_request_was(make_store, clock, asked, found):
    clock.now = START / 1e9 + 600
    store = make_store()
    store.add(
        stored(
            request_span(1, model="small", status=200, key_id="key-a", ms=20),
            request_span(2, model="large", status=429, key_id="key-b", ms=100),
            request_span(3, model="small", status=404, key_id="key-a", ms=20),
            request_span(4, model="large", status=503, key_id="key-b", ms=2000),
            make_span(5, 1, error=True, start_ms=560_000),
            make_span(1, 7, parent=1, duration_ms=5000, attributes={"gen_ai.request.model": "large"}),
        )
    )
    listed = store.newest(ListTraces(**asked))
    assert sorted((int(one.trace_id, 16) for one in listed), reverse=True) == found
    reasons = {int(one.trace_id, 16): one.reason for one in listed if one.reason}
    assert reasons == {each: f"it was refused with {(0, 0, 429, 404, 503)[each]}" for each in found if 1 < each < 5}


def test_a_file_of_the_first_schema_keeps_its_traces(make_store, tmp_path):
    store = make_store(tmp_path)
    store.add(stored(make_span(1, 1)))
    store.close()
    with sqlite3.connect(tmp_path / "traces.db") as database:
        for column in ("duration", "model", "status", "key", "reason"):
            database.execute(f"ALTER TABLE traces DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 1")
    database.close()
    again = make_store(tmp_path)
    assert [one.spans for one in again.newest(ListTraces())] == [1]
    again.add(stored(request_span(2, model="small", status=200, key_id="key-a", ms=20)))
    assert [int(one.trace_id, 16) for one in again.newest(ListTraces(model="small"))] == [2]
    again.check_integrity()


def test_a_file_of_another_schema_is_set_aside(make_store, tmp_path):
    database = sqlite3.connect(tmp_path / "traces.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    make_store(tmp_path).check_integrity()
    assert list(tmp_path.glob("traces.db.unusable-*"))


KILLED = """
import os, sqlite3, sys
from pathlib import Path
from services.monitor import store

connect, folder, limits = sqlite3.connect, Path(sys.argv[1]), store.Limits(spans=9, bytes=9, age=9.0)

def mortal(*args, steps, **options):
    database = connect(*args, **options)
    database.set_progress_handler(lambda: os._exit(9), steps)
    return database

for steps in range(5, 2000, 5):
    if (child := os.fork()) == 0:
        store.sqlite3.connect = lambda *args, **options: mortal(*args, steps=steps, **options)
        store.TraceStore(folder / str(steps), limits)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    store.sqlite3.connect = connect
    store.TraceStore(folder / str(steps), limits).check_integrity()
print(steps)
"""
"""Kills first starts after ever more steps of SQLite, until one comes to its end; a second start follows each."""


def test_a_first_start_may_be_killed_at_any_step(tmp_path):
    command = [sys.executable, "-P", "-c", KILLED, str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert 50 < int(done.stdout) < 1995
    assert not list(tmp_path.glob("*/traces.db.unusable-*"))


def test_a_file_whose_tables_have_no_version_yet_is_completed(make_store, tmp_path):
    """Monitors before this one could be killed between the two."""
    store = make_store(tmp_path)
    store.add(stored(make_span(1, 1)))
    store.close()
    with sqlite3.connect(tmp_path / "traces.db") as database:
        for column in ("duration", "model", "status", "key", "reason"):
            database.execute(f"ALTER TABLE traces DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 0")
    database.close()
    again = make_store(tmp_path)
    assert [one.spans for one in again.newest(ListTraces())] == [1]
    again.check_integrity()


def test_a_folder_that_is_a_file_is_an_error(make_store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        make_store(tmp_path / "file")


spans_of_few_traces = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(0, 200)), max_size=8)


@settings(max_examples=50)
@given(st.lists(spans_of_few_traces, max_size=8))
def test_counts_and_limits_hold_whatever_comes(batches):
    clock = Clock()
    store = TraceStore(None, Limits(spans=7, bytes=1500, age=3.0), clock=clock)
    for batch in batches:
        clock.now += 1
        store.add(stored(*(make_span(trace, span, padding=padding) for trace, span, padding in batch)))
        store.check_integrity()
        assert sum(trace.spans for trace in store.newest(ListTraces(limit=100))) <= 7
    store.close()
