"""From the telemetry stream into the store, and on to the forwarder."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from services.monitor.archive import Archive
from services.monitor.export import Forwarder
from services.monitor.spans import StoredSpan, decode_spans
from shared.bus.port import Message
from shared.contracts.monitor import TRACES_SUBJECT
from shared.disk import Disk, DiskUse
from shared.errors import InvalidInput, StorageFull
from shared.service.readiness import Readiness

_log = structlog.get_logger("llmos.monitor")


class Ingest:
    """Handles each message of the stream; the bus acknowledges it when `handle` returns.

    Garbage is logged and skipped, and spans for which the disk has no room are dropped. A store that cannot write
    raises, so that the message comes again.

    Args:
        archive: The store.
        forwarder: Sends spans on; None: nobody wants them.
        readiness: Is told when the store can't write.
        disk: Whose room they take.
        on_spans: Called with new spans.
    """

    def __init__(
        self,
        archive: Archive,
        forwarder: Forwarder | None,
        readiness: Readiness,
        disk: Disk,
        on_spans: Callable[[Sequence[StoredSpan]], None] = lambda _: None,
    ) -> None:
        self._archive = archive
        self._forwarder = forwarder
        self._readiness = readiness
        self._disk = disk
        self._on_spans = on_spans
        self.pending = 0
        """Messages that waited behind the last one."""

    async def handle(self, message: Message) -> None:
        """Take in one message of any telemetry subject; only spans are stored."""
        self.pending = message.pending
        if message.subject != TRACES_SUBJECT:
            return
        if self._disk.why_not(DiskUse.TELEMETRY) is not None:
            return  # its senders drop what follows, count it and say why
        try:
            decoded = await asyncio.to_thread(decode_spans, message.data)
        except InvalidInput as error:
            _log.warning("telemetry.unreadable", bytes=len(message.data), error=error.message)
            return
        if decoded.refused:
            _log.warning("telemetry.spans_without_ids", spans=decoded.refused)
        try:
            added = await self._archive.add(decoded.spans)
        except StorageFull as error:
            self._readiness.set("store", error.message)
            raise
        self._readiness.set("store", None)
        if added:
            self._on_spans(decoded.spans)
        if added and self._forwarder is not None:
            self._forwarder.offer(message.data)
