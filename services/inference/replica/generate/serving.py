"""What connects the engine, the frames and the bus, and ends what nobody waits for."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

import structlog

from services.inference.engine.engine import Engine
from services.inference.engine.request import SequenceUpdate
from services.inference.replica.generate.frames import Ended, Ending, Stream, Streams, terminal_frame
from services.inference.replica.generate.gateway_watch import GatewayWatch
from services.inference.replica.generate.publisher import Publisher
from shared.contracts.gateway import FinishReason, FrameBatch, Timings
from shared.contracts.monitor import HEALTH_TTL_S, HealthBeat
from shared.errors import DeadlineExceeded, Draining, LlmosError

log = structlog.get_logger("llmos.replica")

CHECK_S = 0.2
"""Deadlines and silent gateways are looked at this often."""
CONFIRM_S = 3.0
"""An ended sequence is confirmed by the engine within a step; a step lasts less than this."""


class Serving:
    """The open requests of a replica. All methods run on the event loop, but `on_step`.

    Args:
        replica_id: Stands in every frame.
        publisher: Takes the frames.
        on_ended: Told of each request after its terminal frame was queued.
    """

    def __init__(self, replica_id: str, publisher: Publisher, on_ended: Callable[[Ended], None]) -> None:
        self._replica_id = replica_id
        self._streams = Streams(replica_id)
        self._publisher = publisher
        self._on_ended = on_ended
        self._gateways = GatewayWatch(HEALTH_TTL_S)
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.draining = False
        """Whether new requests are refused."""

    def attach(self, engine: Engine) -> None:
        """The engine whose `on_step` is ours."""
        self._engine = engine

    def on_step(self, updates: list[SequenceUpdate]) -> None:
        """Called on the engine's thread: hand the step over to the event loop."""
        self._loop.call_soon_threadsafe(self._apply, updates)

    def open(self, stream: Stream) -> None:
        """Expect a request's updates; raises `Conflict` if its id is in use."""
        self._streams.open(stream)
        self._quiet.clear()

    def forget(self, stream: Stream) -> None:
        """The engine refused the request."""
        self._streams.forget(stream.request_id)
        self._settle()

    def close_at_once(self, stream: Stream, ending: Ending) -> None:
        """Answer a request that needs no computing with its terminal frame."""
        timings = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        frame = terminal_frame(stream, ending, timings)
        self._publisher.send(stream.gateway_id, FrameBatch(replica_id=self._replica_id, frames=(frame,)))
        self._on_ended(Ended(stream, ending, timings))

    def end(self, request_ids: Iterable[str], reason: FinishReason, error: LlmosError | None = None) -> int:
        """End requests early: each gets its terminal frame within one step. Answers how many were open."""
        assert self._engine is not None
        count = 0
        for request_id in request_ids:
            if self._streams.end(request_id, Ending(reason, error)):
                self._engine.cancel(request_id)
                count += 1
        return count

    def gateway_beat(self, beat: HealthBeat) -> None:
        """A gateway lives, or says goodbye."""
        if beat.leaving:
            self._gateways.left(beat.instance)
        else:
            self._gateways.heard(beat.instance, time.monotonic())

    async def watch(self, connected: Callable[[], bool]) -> None:
        """End, for as long as it runs, requests whose deadline passed or whose gateway is gone."""
        while True:
            await asyncio.sleep(CHECK_S)
            overdue = self._streams.overdue(time.time_ns() // 1_000_000)
            self.end(
                overdue, FinishReason.ERROR, DeadlineExceeded("the request's deadline passed before its answer ended")
            )
            if not connected():
                self._gateways.deaf(time.monotonic())
            gone = self._gateways.gone(time.monotonic())
            if gone:
                count = self.end(self._streams.of_gateways(gone), FinishReason.CANCELLED)
                log.warning("gateways_gone", gateways=gone, cancelled=count)
                self._gateways.forget(gone)

    async def drain(self, grace: float) -> None:
        """Refuse new requests, let the others finish for `grace` seconds, and hand the rest back.

        What does not finish gets a retryable `Draining` error frame: its gateway resumes it on another replica.
        """
        self.draining = True
        if await self._is_quiet(grace):
            return
        count = self.end(
            self._streams.open_ids(), FinishReason.ERROR, Draining("this replica stops; the answer goes on elsewhere")
        )
        log.warning("drain_time_over", handed_back=count, grace_s=grace)
        if not await self._is_quiet(CONFIRM_S):
            log.error("engine_did_not_confirm", open=len(self._streams))

    async def _is_quiet(self, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._quiet.wait()
        return self._quiet.is_set()

    def _apply(self, updates: list[SequenceUpdate]) -> None:
        assert self._engine is not None
        step = self._streams.apply(updates)
        for request_id in step.cancel:
            self._engine.cancel(request_id)
        for gateway_id, batch in step.batches.items():
            self._publisher.send(gateway_id, batch)
        for ended in step.ended:
            self._on_ended(ended)
        self._settle()

    def _settle(self) -> None:
        if not len(self._streams):
            self._quiet.set()
