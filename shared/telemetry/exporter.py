"""Spans as OTLP protobuf onto the bus, from the SDK's export thread.

Telemetry never blocks or fails a request: what cannot be sent is dropped, counted, and said in the log now and then.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from shared.bus.port import OBJECT_THRESHOLD, Bus
from shared.contracts.monitor import TRACES_SUBJECT
from shared.deadlines import TELEMETRY_PUBLISH_S
from shared.disk import Disk, DiskUse

_log = structlog.get_logger("llmos.telemetry")

MAX_MESSAGE = OBJECT_THRESHOLD // 2
"""Bytes of one telemetry message; a larger batch is split."""
WARN_EVERY_S = 10.0


class Drops:
    """Counts what was lost, and warns at most every `WARN_EVERY_S`. Thread-safe."""

    def __init__(self, kind: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._warned_at = float("-inf")
        self._unsaid = 0

    def count(self, items: int, why: str) -> None:
        """Note that `items` were lost."""
        with self._lock:
            self.total += items
            self._unsaid += items
            now = self._clock()
            if now - self._warned_at < WARN_EVERY_S:
                return
            self._warned_at, unsaid, self._unsaid = now, self._unsaid, 0
        _log.warning("telemetry.dropped", kind=self._kind, dropped=unsaid, dropped_in_all=self.total, why=why)


class BusSpanExporter(SpanExporter):
    """Publishes spans on `TRACES_SUBJECT`: hands batches from the export thread to the event loop that owns the bus.

    Args:
        bus: Where to publish.
        loop: The bus's event loop.
        disk: Which the bus stores them on.
        max_payload: Bytes of one message.
    """

    def __init__(
        self, bus: Bus, loop: asyncio.AbstractEventLoop, disk: Disk, *, max_payload: int = MAX_MESSAGE
    ) -> None:
        self.drops = Drops("spans")
        self._bus = bus
        self._loop = loop
        self._disk = disk
        self._max_payload = max_payload
        self._deadline = float("inf")
        self._taken: Callable[[int], None] = lambda _: None

    def close_by(self, deadline: float) -> None:
        """Send nothing after `deadline` (monotonic seconds)."""
        self._deadline = deadline

    def on_taken(self, taken: Callable[[int], None]) -> None:
        """Call `taken` with the number of spans that each export was given."""
        self._taken = taken

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch. Not to be called on the event loop."""
        try:
            return SpanExportResult.SUCCESS if self._send(spans) else SpanExportResult.FAILURE
        finally:
            self._taken(len(spans))

    def shutdown(self) -> None:
        """Nothing is buffered here."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is buffered here."""
        del timeout_millis
        return True

    def _send(self, spans: Sequence[ReadableSpan]) -> bool:
        """Publish `spans`, split as needed; False if some were dropped."""
        if (full := self._disk.why_not(DiskUse.TELEMETRY)) is not None:
            self.drops.count(len(spans), full)
            return False
        payload = encode_spans(spans).SerializeToString()
        if len(payload) <= self._max_payload:
            problem = self._publish(payload)
            if problem is not None:
                self.drops.count(len(spans), problem)
            return problem is None
        if len(spans) == 1:
            self.drops.count(1, f"one span has {len(payload)} bytes; the limit is {self._max_payload}")
            return False
        middle = len(spans) // 2
        first = self._send(spans[:middle])
        return self._send(spans[middle:]) and first

    def _publish(self, payload: bytes) -> str | None:
        """What went wrong, or None."""
        timeout = min(TELEMETRY_PUBLISH_S, self._deadline - time.monotonic())
        if timeout <= 0:
            return "the time to flush is over"
        if not self._bus.connected:
            return "the bus is not connected"
        publishing = self._bus.publish(TRACES_SUBJECT, payload)
        try:
            future = asyncio.run_coroutine_threadsafe(publishing, self._loop)
        except RuntimeError:  # the loop is closed
            publishing.close()
            return "the event loop has ended"
        try:
            future.result(timeout=timeout)
        except TimeoutError:
            future.cancel()
            return "the event loop is busy or has ended"
        except Exception as error:  # noqa: BLE001  # the boundary between telemetry and everything else
            return f"{type(error).__name__}: {error}"
        return None


class BoundedSpanProcessor(BatchSpanProcessor):
    """The SDK's batch processor, with its drops counted."""

    def __init__(self, exporter: BusSpanExporter, *, max_queue: int, batch: int, delay_s: float) -> None:
        super().__init__(
            exporter,
            max_queue_size=max_queue,
            max_export_batch_size=batch,
            schedule_delay_millis=delay_s * 1000,
        )
        self._max_queue = max_queue
        self._drops = exporter.drops
        self._lock = threading.Lock()
        self._pending = 0
        exporter.on_taken(self._take)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span, or drop it when the queue is full."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._lock:
            full = self._pending >= self._max_queue
            if not full:
                self._pending += 1
        if full:
            self._drops.count(1, f"{self._max_queue} spans wait already")
        else:
            super().on_end(span)

    def _take(self, spans: int) -> None:
        with self._lock:
            self._pending -= spans
