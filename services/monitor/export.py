"""Forwards telemetry to an OTLP/gRPC receiver such as Jaeger, and never delays its source."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from shared.addresses import is_nearby
from shared.deadlines import FORWARDING_FLUSH_S
from shared.service.background import background

_log = structlog.get_logger("llmos.monitor")

MAX_QUEUED_BYTES = 32 * 1024 * 1024
EXPORT_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""https://opentelemetry.io/docs/specs/otlp/#failures"""
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Forwarder:
    """A bounded queue of `ExportTraceServiceRequest` payloads on their way to `endpoint`.

    Payloads are sent one after another, with back-off while the receiver is away. When the queue is full the oldest
    payload is dropped; drops are counted, and logged when sending works again or at the end.
    """

    def __init__(self, endpoint: str, *, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        self.sent = 0
        self.dropped = 0
        """Payloads."""
        self._endpoint = endpoint
        self._max_bytes = max_bytes
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._failing = False
        self._unlogged = 0

    def offer(self, payload: bytes) -> None:
        """Queue a payload. Returns at once."""
        if len(payload) > self._max_bytes:
            self._drop(f"a payload of {len(payload)} bytes is larger than the whole queue")
            return
        self._queue.append(payload)
        self._bytes += len(payload)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._queue.popleft())
            self._drop("the queue is full")
        self._emptied.clear()
        self._filled.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while inside; on leaving, send what is queued within `FORWARDING_FLUSH_S`."""
        async with _channel(self._endpoint) as channel:
            try:
                async with background(self._send_for_ever(channel), "forward telemetry"):
                    yield
                    with suppress(TimeoutError):
                        async with asyncio.timeout(FORWARDING_FLUSH_S):
                            await self._emptied.wait()
            finally:
                self.dropped += len(self._queue)
                if self.dropped:
                    _log.warning("forwarding.incomplete", endpoint=self._endpoint, dropped=self.dropped)

    async def _send_for_ever(self, channel: grpc.aio.Channel) -> None:
        export: grpc.aio.UnaryUnaryMultiCallable[bytes, ExportTraceServiceResponse] = channel.unary_unary(
            _METHOD, response_deserializer=ExportTraceServiceResponse.FromString
        )
        delay = BACKOFF_FIRST_S
        while True:
            while not self._queue:
                self._filled.clear()
                self._emptied.set()
                await self._filled.wait()
            payload = self._queue[0]
            try:
                response = await export(payload, timeout=EXPORT_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() in RETRYABLE:
                    self._note_failure(error)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, BACKOFF_MAX_S)
                    continue
                self._drop(f"rejected: {error.code().name}: {error.details()}")
            else:
                self._note_success(response)
            delay = BACKOFF_FIRST_S
            if self._queue and self._queue[0] is payload:  # else it was dropped meanwhile
                self._bytes -= len(self._queue.popleft())

    def _note_success(self, response: ExportTraceServiceResponse) -> None:
        self.sent += 1
        if response.partial_success.rejected_spans:
            _log.warning(
                "forwarding.spans_rejected",
                endpoint=self._endpoint,
                spans=response.partial_success.rejected_spans,
                why=response.partial_success.error_message,
            )
        if self._failing:
            self._failing = False
            _log.info("forwarding.resumed", endpoint=self._endpoint, dropped_meanwhile=self._unlogged)
            self._unlogged = 0

    def _note_failure(self, error: grpc.aio.AioRpcError) -> None:
        if not self._failing:
            self._failing = True
            _log.warning(
                "forwarding.interrupted",
                endpoint=self._endpoint,
                retrying=True,
                status=error.code().name,
                details=error.details(),
            )

    def _drop(self, why: str) -> None:
        self.dropped += 1
        self._unlogged += 1
        if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8, …: logged often at first, then rarely
            _log.warning("forwarding.dropped", endpoint=self._endpoint, dropped=self.dropped, why=why)


def _channel(endpoint: str) -> grpc.aio.Channel:
    """A channel to `http://host:port`, `https://host:port` (TLS) or `host:port`; nearby hosts without a proxy."""
    scheme, _, address = endpoint.rpartition("://")
    address = address.rstrip("/")
    # gRPC reads grpc_proxy, https_proxy and http_proxy, and asks them for loopback too unless no_proxy names it.
    direct = is_nearby(address.rpartition(":")[0])
    options = [("grpc.enable_http_proxy", 0)] if direct else []
    if scheme == "https":
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(address, options)
