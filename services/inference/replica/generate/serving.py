"""Connects the engine, the frames and the bus; aborts requests that are overdue or whose gateway is lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable

import structlog

from services.inference.engine.engine import Engine, end_process
from services.inference.engine.request import SequenceUpdate
from services.inference.replica.generate.frames import Streams, terminal_frame
from services.inference.replica.generate.gateway_watch import GatewayWatch
from services.inference.replica.generate.publisher import Publisher
from services.inference.replica.generate.stream import Finish, FinishedRequest, Stream
from shared.contracts.gateway import FinishReason, FrameBatch, Timings
from shared.contracts.monitor import Heartbeat
from shared.deadlines import ENGINE_CONFIRM_S, HEARTBEAT_TTL_S
from shared.errors import DeadlineExceeded, Draining, LlmosError
from shared.service.background import background

_log = structlog.get_logger("llmos.replica")

CHECK_S = 0.2
"""Seconds between checks of deadlines and gateways."""


class Serving:
    """The open requests of a replica. All methods except `on_step` run on the event loop.

    Args:
        replica_id: Part of every frame.
        publisher: Takes the frames.
        on_finished: Called with each request after its terminal frame was queued.
    """

    def __init__(self, replica_id: str, publisher: Publisher, on_finished: Callable[[FinishedRequest], None]) -> None:
        self._replica_id = replica_id
        self._streams = Streams(replica_id)
        self._publisher = publisher
        self._on_finished = on_finished
        self._gateways = GatewayWatch(HEARTBEAT_TTL_S)
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        """Whether new requests are rejected."""

    def attach(self, engine: Engine) -> None:
        """Set the engine, which calls `on_step`."""
        self._engine = engine

    def on_step(self, updates: list[SequenceUpdate]) -> None:
        """Called on the engine's thread: passes the step to the event loop."""
        self._loop.call_soon_threadsafe(self._apply, updates)

    def open(self, stream: Stream) -> None:
        """Expect a request's updates; raises `Conflict` if its id is in use."""
        self._streams.open(stream)
        self._idle.clear()

    def forget(self, stream: Stream) -> None:
        """Remove a request that the engine rejected."""
        self._streams.forget(stream.request_id)
        self._update_idle()

    def finish_at_once(self, stream: Stream, finish: Finish) -> None:
        """Send the terminal frame of a request that needs no computing."""
        timings = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        frame = terminal_frame(stream, finish, timings)
        self._publisher.send(stream.gateway_id, FrameBatch(replica_id=self._replica_id, frames=(frame,)))
        self._on_finished(FinishedRequest(stream, finish, timings))

    def abort(self, request_ids: Iterable[str], reason: FinishReason, error: LlmosError | None = None) -> int:
        """End requests early: each gets its terminal frame within one step. Returns how many were open."""
        assert self._engine is not None
        count = 0
        for request_id in request_ids:
            if self._streams.abort(request_id, Finish(reason, error)):
                self._engine.cancel(request_id)
                count += 1
        return count

    def gateway_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Record that a gateway lives, or that it leaves."""
        if heartbeat.leaving:
            self._gateways.left(heartbeat.instance)
        else:
            self._gateways.heartbeat(heartbeat.instance, time.monotonic())

    @contextlib.asynccontextmanager
    async def running(self, connected: Callable[[], bool]) -> AsyncIterator[None]:
        """Abort requests that are overdue or whose gateway is lost, while inside.

        Args:
            connected: Whether the bus is connected: without it no heartbeats arrive.
        """
        async with background(self._watch(connected), "watch deadlines and gateways", on_failure=end_process):
            yield

    async def drain(self, grace: float) -> None:
        """Reject new requests, let the others finish for `grace` seconds, and hand the rest back.

        A request that does not finish gets a retryable `Draining` error frame; its gateway resumes it elsewhere.
        """
        self.draining = True
        if await self._wait_idle(grace):
            return
        count = self.abort(
            self._streams.open_ids(), FinishReason.ERROR, Draining("this replica stops; the answer goes on elsewhere")
        )
        _log.warning("drain.timed_out", handed_back=count, grace_s=grace)
        if not await self._wait_idle(ENGINE_CONFIRM_S):
            _log.error("engine.not_confirmed", open=len(self._streams))

    async def _watch(self, connected: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            overdue = self._streams.overdue(time.monotonic())
            self.abort(
                overdue,
                FinishReason.ERROR,
                DeadlineExceeded("the request's deadline passed before its answer ended"),
            )
            if not connected():
                self._gateways.reset(time.monotonic())
            lost = self._gateways.lost(time.monotonic())
            if lost:
                count = self.abort(self._streams.of_gateways(lost), FinishReason.CANCELLED)
                _log.warning("gateway.lost", gateways=lost, cancelled=count)
                self._gateways.forget(lost)

    async def _wait_idle(self, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        return self._idle.is_set()

    def _apply(self, updates: list[SequenceUpdate]) -> None:
        assert self._engine is not None
        step = self._streams.apply(updates)
        for request_id in step.cancel:
            self._engine.cancel(request_id)
        for gateway_id, batch in step.batches.items():
            self._publisher.send(gateway_id, batch)
        for finished in step.finished:
            self._on_finished(finished)
        self._update_idle()

    def _update_idle(self) -> None:
        if not len(self._streams):
            self._idle.set()
