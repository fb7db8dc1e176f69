"""Recent spans in SQLite, within limits of number, bytes and age; whole traces go, oldest first."""

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from services.monitor.spans import StoredSpan, stored_span
from shared.contracts.monitor import ListTraces, TraceSummary

_log = structlog.get_logger("llmos.monitor")

SCHEMA_VERSION = 2
_ADD_FACTS = """
    BEGIN;
    ALTER TABLE traces ADD COLUMN duration INTEGER;
    ALTER TABLE traces ADD COLUMN model TEXT;
    ALTER TABLE traces ADD COLUMN status INTEGER;
    ALTER TABLE traces ADD COLUMN key TEXT;
    ALTER TABLE traces ADD COLUMN reason TEXT;
    PRAGMA user_version = 2;
    COMMIT;
"""
"""From version 1: traces that are there are found by none of them."""
_SCHEMA = """
    BEGIN;
    CREATE TABLE IF NOT EXISTS traces (
        trace_id BLOB PRIMARY KEY,
        start INTEGER NOT NULL,
        end INTEGER NOT NULL,
        spans INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        error INTEGER NOT NULL,
        touched REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS traces_touched ON traces (touched);
    CREATE INDEX IF NOT EXISTS traces_start ON traces (start);
    CREATE TABLE IF NOT EXISTS spans (
        trace_id BLOB NOT NULL,
        span_id BLOB NOT NULL,
        parent_id BLOB NOT NULL,
        name TEXT NOT NULL,
        start INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (trace_id, span_id)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;
    COMMIT;
"""
"""Version 1. A file without a version may have the tables: earlier monitors could be killed between the two."""
_TOUCH = """
    INSERT INTO traces (trace_id, start, end, spans, bytes, error, touched) VALUES (?, ?, ?, 1, ?, ?, ?)
    ON CONFLICT (trace_id) DO UPDATE SET
        start = min(start, excluded.start), end = max(end, excluded.end), spans = spans + 1,
        bytes = bytes + excluded.bytes, error = max(error, excluded.error), touched = excluded.touched
"""
_SET_FACTS = "UPDATE traces SET duration = ?, model = ?, status = ?, key = ?, reason = ? WHERE trace_id = ?"
_NEWEST = """
    SELECT trace_id, spans, error, model, status, key, reason FROM traces
    WHERE (:model IS NULL OR model = :model) AND (:key IS NULL OR key = :key)
        AND (NOT :errors OR error OR status >= 400)
        AND (:lowest IS NULL OR status BETWEEN :lowest AND :highest)
        AND (:duration IS NULL OR duration >= :duration)
        AND (:start IS NULL OR start >= :start)
    ORDER BY touched DESC, start DESC LIMIT :limit
"""
_ROOT = """
    SELECT data FROM spans AS s WHERE trace_id = ?
    ORDER BY (parent_id = x'') DESC,
        NOT EXISTS (SELECT 1 FROM spans AS p WHERE p.trace_id = s.trace_id AND p.span_id = s.parent_id) DESC, start
    LIMIT 1
"""
"""The root; else (a client's own span is the root) the earliest span whose parent is not here."""


_MAX_S = 1e9
"""Seconds; more could not be told from it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is stored."""

    spans: int
    bytes: int
    age: float
    """Seconds after a trace's last span came."""


class TraceStore:
    """Blocking; one thread at a time. What `add` returned for is on disk and outlives `kill -9`.

    A file that is damaged or of another schema is set aside, with a warning: telemetry may be lost, and must not
    keep the monitor from starting.

    Args:
        folder: Where `traces.db` lies; None: in memory.
        limits: How much is stored.
        clock: Unix time in seconds.
    """

    def __init__(self, folder: Path | None, limits: Limits, *, clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._clock = clock
        self._path = folder / "traces.db" if folder else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open()
        except sqlite3.DatabaseError as error:
            if self._path is None or isinstance(error, sqlite3.OperationalError):
                raise
            self._set_aside(str(error))
            self._database = self._open()
        self._spans, self._bytes = self._database.execute(
            "SELECT coalesce(sum(spans), 0), coalesce(sum(bytes), 0) FROM traces"
        ).fetchone()

    def add(self, spans: Iterable[StoredSpan]) -> int:
        """Keep `spans`, forget what is over the limits; how many of them were new.

        A span that is there already is left as it is, so redelivery does no harm.
        """
        added = size = 0
        now = self._clock()
        with self._database:
            for span in spans:
                cursor = self._database.execute(
                    "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?, ?)",
                    (span.trace_id, span.span_id, span.parent_id, span.name, span.start, span.data),
                )
                if cursor.rowcount:
                    added += 1
                    size += len(span.data)
                    self._database.execute(
                        _TOUCH, (span.trace_id, span.start, span.end, len(span.data), span.error, now)
                    )
                    if (facts := span.facts) is not None:
                        values = (facts.duration, facts.model, facts.status, facts.key, facts.reason)
                        self._database.execute(_SET_FACTS, (*values, span.trace_id))
        self._spans += added
        self._bytes += size
        self.enforce_limits()
        return added

    def enforce_limits(self) -> int:
        """Forget what is too old or too much; how many traces went."""
        gone = 0
        while (oldest := self._oldest()) is not None:
            trace_id, spans, size, touched = oldest
            too_much = self._spans > self._limits.spans or self._bytes > self._limits.bytes
            if not too_much and touched >= self._clock() - self._limits.age:
                break
            with self._database:
                self._database.execute("DELETE FROM spans WHERE trace_id = ?", (trace_id,))
                self._database.execute("DELETE FROM traces WHERE trace_id = ?", (trace_id,))
            self._spans -= spans
            self._bytes -= size
            gone += 1
        if gone:
            self._database.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def trace(self, trace_id: bytes) -> list[bytes]:
        """The `ResourceSpans` messages of a trace's spans, by start time; empty: not stored."""
        rows = self._database.execute(
            "SELECT data FROM spans WHERE trace_id = ? ORDER BY start, span_id", (trace_id,)
        )
        return [data for (data,) in rows]

    def newest(self, request: ListTraces) -> list[TraceSummary]:
        """The traces that match, those whose spans came last first.

        The times of a summary are those of its root: the times of other machines' spans are by other clocks.
        """
        rows = self._database.execute(_NEWEST, _values(request, self._clock())).fetchall()
        names = ("model", "status", "key", "reason")
        return [self._summary(row[0], row[1], row[2], dict(zip(names, row[3:], strict=True))) for row in rows]

    def _summary(self, trace_id: bytes, spans: int, error: int, facts: dict[str, Any]) -> TraceSummary:
        (data,) = self._database.execute(_ROOT, (trace_id,)).fetchone()
        root = stored_span(data)
        return TraceSummary(
            trace_id=trace_id.hex(),
            name=root.name,
            started_at=datetime.fromtimestamp(root.start / 1e9, UTC),
            duration=(root.end - root.start) / 1e9,
            spans=spans,
            error=bool(error),
            **facts,
        )

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._database.close()

    def check_integrity(self) -> None:
        """Assert that the counts and the rows agree."""
        spans, size = self._database.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM spans").fetchone()
        assert (self._spans, self._bytes) == (spans, size)
        wrong = self._database.execute(
            "SELECT count(*) FROM traces AS t WHERE spans != (SELECT count(*) FROM spans WHERE trace_id = t.trace_id)"
        ).fetchone()
        assert wrong == (0,)

    def _oldest(self) -> tuple[bytes, int, int, float] | None:
        row: tuple[bytes, int, int, float] | None = self._database.execute(
            "SELECT trace_id, spans, bytes, touched FROM traces ORDER BY touched LIMIT 1"
        ).fetchone()
        return row

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path or ":memory:", check_same_thread=False)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if not 0 <= version <= SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema version {version}, expected {SCHEMA_VERSION}")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            if version == 0:
                database.executescript(_SCHEMA)
            if version < SCHEMA_VERSION:
                database.executescript(_ADD_FACTS)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _set_aside(self, why: str) -> None:
        assert self._path is not None
        aside = self._path.with_name(f"traces.db.unusable-{int(self._clock())}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(f"traces.db{suffix}").unlink(missing_ok=True)
        _log.warning("traces.set_aside", moved_to=str(aside), why=why)


def _values(request: ListTraces, now: float) -> dict[str, Any]:
    """What stands for the names in `_NEWEST`."""
    status = request.status if request.status not in (None, "error") else None
    lowest = None if status is None else int(status.replace("xx", "00"))
    return {
        "limit": request.limit,
        "model": request.model,
        "key": request.key,
        "errors": request.status == "error",
        "lowest": lowest,
        "highest": None if lowest is None or status is None else lowest + (99 if status.endswith("xx") else 0),
        "duration": None if request.slower_than is None else int(min(request.slower_than, _MAX_S) * 1e9),
        "start": None if request.since is None else int((now - min(request.since, now)) * 1e9),
    }
