"""A local, always readable copy of a KV bucket, kept by watch: reads go on while the bus is down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import structlog
from pydantic import ValidationError

from shared.bus.port import KeyValue, KvEvent, KvOperation
from shared.bus.tasks import end
from shared.errors import LlmosError

log = structlog.get_logger("llmos.gateway")

Value = TypeVar("Value")

RETRY_S = 0.5


class KvMirror(Generic[Value]):
    """All records of a bucket, by key.

    Args:
        kv: The bucket.
        decode: Bytes to record; raises `pydantic.ValidationError`: such a record is left out and logged.
        on_change: Called after every change with all records.
    """

    def __init__(
        self,
        kv: KeyValue,
        decode: Callable[[bytes], Value],
        on_change: Callable[[dict[str, Value]], None] | None = None,
    ) -> None:
        self._kv = kv
        self._decode = decode
        self._on_change = on_change or (lambda _records: None)
        self._records: dict[str, Value] = {}
        self._revisions: dict[str, int] = {}
        self._synced = asyncio.Event()

    @property
    def records(self) -> dict[str, Value]:
        """The records as known now. Not to be changed."""
        return self._records

    @property
    def synced(self) -> bool:
        """Whether the bucket has been read completely once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once the bucket has been read completely."""
        await self._synced.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KvMirror[Value]"]:
        """Follow the bucket while the block runs."""
        task = asyncio.create_task(self._follow(), name="kv-mirror")
        try:
            yield self
        finally:
            await end(task)

    def apply(self, event: KvEvent) -> None:
        """Take in a change: one that was told, or one that this process has just made. Older ones are ignored."""
        known = self._revisions.get(event.key, 0)
        if 0 < event.revision < known:
            return
        self._revisions[event.key] = max(event.revision, known)
        if event.operation is KvOperation.DELETE:
            self._records.pop(event.key, None)
        else:
            self._take(event.key, event.value)
        self._on_change(self._records)

    async def _follow(self) -> None:
        while True:
            try:
                async with self._kv.watch() as events:
                    async for event in events:
                        if event.operation is KvOperation.SYNCED:
                            await self._reread()
                        else:
                            self.apply(event)
            except LlmosError as error:
                log.warning("kv_watch_failed", error=error.message)
            await asyncio.sleep(RETRY_S)

    async def _reread(self) -> None:
        """Replace everything: what was deleted while the watch was down is told by nobody."""
        self._revisions.clear()
        entries = await self._kv.entries()
        present = {entry.key for entry in entries}
        for key in [key for key in self._records if key not in present]:
            del self._records[key]
        for entry in entries:
            if entry.revision >= self._revisions.get(entry.key, 0):
                self._revisions[entry.key] = entry.revision
                self._take(entry.key, entry.value)
        self._synced.set()
        self._on_change(self._records)

    def _take(self, key: str, value: bytes) -> None:
        try:
            self._records[key] = self._decode(value)
        except ValidationError as error:
            self._records.pop(key, None)
            log.error(  # noqa: TRY400  # a peer's record, not our stack
                "kv_record_unreadable", key=key, problem=str(error)
            )
