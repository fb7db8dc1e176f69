"""The trace store for asyncio: its blocking work in one thread of its own."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self, TypeVar

from services.monitor.spans import TRACE_ID_BYTES, StoredSpan, trace_document
from services.monitor.store import Limits, TraceStore
from shared.contracts.monitor import ListTraces, TraceDocument, TraceList
from shared.errors import InvalidInput, NotFound, StorageFull, Unavailable

Result = TypeVar("Result")


class Archive:
    """A `TraceStore` for the event loop; open while `running`."""

    def __init__(self, folder: Path | None, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trace-store")
        self._store: TraceStore | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Open the store while inside.

        Raises:
            Unavailable: The folder cannot be used.
        """
        try:
            self._store = await self._run(lambda: TraceStore(self._folder, self._limits))
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise Unavailable(
                f"traces cannot be kept in {self._folder}: {error}; set LLMOS_MONITOR_DIR to a writable folder"
            ) from error
        try:
            yield self
        finally:
            await self._run(self._store.close)
            self._thread.shutdown()

    async def add(self, spans: Sequence[StoredSpan]) -> int:
        """Store `spans`; returns how many were new. Raises `StorageFull` when the disk takes no more."""
        store = self._opened
        return await self._write(lambda: store.add(spans))

    async def trace(self, trace_id: str) -> TraceDocument:
        """The trace as OTLP JSON.

        Raises:
            InvalidInput: not 32 hexadecimal digits.
            NotFound: not stored (any more, or yet).
        """
        store, key = self._opened, _parse_trace_id(trace_id)

        def read() -> TraceDocument | None:
            spans = store.trace(key)
            return TraceDocument(otlp_json=trace_document(spans), spans=len(spans)) if spans else None

        document = await self._run(read)
        if document is None:
            raise NotFound(
                f"there is no trace {trace_id}: traces arrive within a second after their answer and are kept for"
                f" {_hours(self._limits.age)}, at most {self._limits.spans} spans in all",
                param="trace_id",
            )
        return document

    async def newest(self, request: ListTraces) -> TraceList:
        """The traces that match, newest first, and how long traces are kept."""
        store, limits = self._opened, self._limits
        found = await self._run(lambda: store.newest(request))
        return TraceList(traces=tuple(found), max_age=limits.age, max_spans=limits.spans, max_bytes=limits.bytes)

    async def enforce_limits(self) -> int:
        """Delete traces that became too old; returns how many. Raises `StorageFull`."""
        store = self._opened
        return await self._write(store.enforce_limits)

    @property
    def _opened(self) -> TraceStore:
        if self._store is None:
            raise RuntimeError("the archive is not open")
        return self._store

    async def _write(self, work: Callable[[], Result]) -> Result:
        try:
            return await self._run(work)
        except sqlite3.OperationalError as error:
            raise StorageFull(
                f"traces cannot be written to {self._folder}: {error}; free space or lower LLMOS_MONITOR_MAX_BYTES"
            ) from error

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _parse_trace_id(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != TRACE_ID_BYTES or len(text) != 2 * TRACE_ID_BYTES:
        raise InvalidInput(f"{text[:64]!r} is not a trace id; expected 32 hexadecimal digits", param="trace_id")
    return key


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
