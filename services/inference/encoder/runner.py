"""The thread that loops plan -> run -> complete."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import structlog
from numpy.typing import NDArray

from services.inference.encoder.batcher import Batch, EncoderBatcher, FinishedRequest
from services.inference.encoder.graph import EncoderGraph
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import Encoded, EncodeRequest
from services.inference.engine.batch_sizes import BatchSizes
from services.inference.engine.engine import end_process
from services.inference.engine.exponential_mean import ExponentialMean
from services.inference.engine.stall import StallDetector
from shared.contracts.load import EngineCounters, EngineLoad
from shared.errors import Conflict, Draining, Internal, LlmosError, Overloaded, ReplicaLost, Unavailable

_log = structlog.get_logger("llmos.encoder")
_FAILURES = 3
"""Consecutive failed batches after which the graph counts as broken."""
_RETRY_S = 1.0
"""Seconds that a client is asked to wait before the encoder's throughput is known."""
_WEIGHT = 0.1
"""Of the newest batch in the mean throughput."""


class EncoderRunner:
    """Runs requests on a graph in a thread of its own. It computes what waits as soon as it is free.

    Args:
        graph: Owned by the runner from now on: used on its thread only, closed by `close`.
        limits: Bounds of a batch and of the queue.
        max_len: Tokens that a text may have.
        slots: Stands in the load report as what the replica takes at once.
        on_fatal: Called on the runner's thread when it can't go on, after all requests finished with an error.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        graph: EncoderGraph,
        limits: EncoderLimits,
        *,
        max_len: int,
        slots: int = 1,
        on_fatal: Callable[[BaseException], None] = end_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._graph = graph
        self._batcher = EncoderBatcher(limits, max_len=max_len)
        self._max_len = max_len
        self._slots = slots
        self._on_fatal = on_fatal
        self._clock = clock
        self._futures: dict[str, Future[Encoded]] = {}
        self._counters = EngineCounters()
        self._batch_sizes = BatchSizes()
        self._throughput = ExponentialMean(_WEIGHT)
        """Tokens per second."""
        self._stall = StallDetector()
        self._computing = False
        self._failures = 0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="encoder", daemon=True)
        self._draining = False
        self._closing = False
        self._broken = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: EncodeRequest) -> "Future[Encoded]":
        """Queue a request. Thread-safe; the future gets its vectors, or the error that ended it.

        Raises:
            Overloaded: The queue is at its bound.
            Draining: Nothing new is taken.
            Conflict: A request with this id is running.
            InvalidInput: A row is empty or too long.
            Unavailable: The runner broke down, or has stalled.
        """
        with self._wake:
            if self._broken:
                raise Unavailable("the encoder of this replica broke down; try another replica")
            if self._draining or self._closing:
                raise Draining("this replica is draining; try another replica")
            if self._stall.stalled:
                raise Unavailable("the encoder of this replica has stalled; try another replica")
            try:
                self._batcher.admit(request, self._clock())
            except Overloaded as error:
                self._counters.rejected += 1
                raise Overloaded(error.message, retry_after=self._wait() or _RETRY_S) from None
            future: Future[Encoded] = Future()
            future.set_running_or_notify_cancel()  # only `cancel` ends it early
            self._futures[request.id] = future
            self._wake.notify_all()
            return future

    def cancel(self, request_id: str) -> None:
        """End a request now; its rows that wait are dropped. Thread-safe; unknown ids are ignored."""
        with self._wake:
            if self._batcher.cancel(request_id):
                self._counters.cancelled += 1
                error = Conflict("the request was cancelled by its sender", param="request_id")
                self._deliver([FinishedRequest(request_id, error)])

    def drain(self) -> None:
        """Reject new requests from now on; running and waiting requests are finished."""
        with self._wake:
            self._draining = True

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no request is active, at most `timeout` seconds; whether none is."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._futures, timeout)

    def stalled_s(self) -> float:
        """Seconds without a batch if the runner has stalled, else 0. To be called at least once a second."""
        with self._wake:
            return self._stall.look(self._clock(), working=self._computing or bool(self._futures))

    def load(self) -> EngineLoad:
        """How busy it is; a text counts as a sequence, a batch as a step. `mean_batch` counts since the last call."""
        with self._wake:
            batcher = self._batcher
            return EngineLoad(
                running=batcher.running,
                waiting=batcher.waiting,
                queued_tokens=batcher.queued_tokens,
                free_slots=max(0, self._slots - len(batcher)),
                slots=self._slots,
                max_len=self._max_len,
                draining=self._draining,
                max_batch=self._batch_sizes.largest,
                mean_batch=self._batch_sizes.take_mean(),
                stalled_s=self.stalled_s(),
                wait_s=self._wait(),
                counters=replace(self._counters),
            )

    def close(self) -> None:
        """Stop the thread after its batch and close the graph. Requests that still wait fail with `ReplicaLost`."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._graph.close()

    def _wait(self) -> float:
        return self._batcher.queued_tokens / self._throughput.value if self._throughput.value else 0.0

    def _loop(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._compute(batch)
            with self._wake:
                self._deliver(self._batcher.fail_all(ReplicaLost("the replica was stopped")))
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: nothing above it would see the error
            self._break_down(error)

    def _next_batch(self) -> Batch | None:
        """Sleep until there is something to do; None when the runner closes."""
        with self._wake:
            while not (self._closing or self._batcher.has_work):
                self._wake.wait()
            if self._closing:
                return None
            now = self._clock()
            batch = self._batcher.plan(now)
            assert batch is not None, "a row waits"
            self._stall.begin(now, prompt_tokens=len(batch.rows) * max(map(len, batch.rows)))
            self._computing = True
            return batch

    def _compute(self, batch: Batch) -> None:
        began = self._clock()
        outcome = self._run(batch)
        with self._wake:
            now = self._clock()
            self._stall.end(now)
            self._computing = False
            self._deliver(self._batcher.complete(batch, outcome, now))
            tokens = sum(map(len, batch.rows))
            self._batch_sizes.add(len(batch.rows))
            self._counters.steps += 1
            self._counters.prompt_tokens += tokens
            if now > began:
                self._throughput.add(tokens / (now - began))

    def _run(self, batch: Batch) -> list[NDArray[np.float32]] | LlmosError:
        try:
            vectors = list(self._graph.run(batch.rows))
        except BaseException as error:
            error_id = uuid.uuid4().hex[:12]
            _log.exception("encoder.batch_failed", error_id=error_id, rows=len(batch.rows))
            self._failures += 1
            if self._failures >= _FAILURES:
                raise
            return (
                error
                if isinstance(error, LlmosError)
                else Internal(f"the model failed while computing; error id {error_id}")
            )
        self._failures = 0
        return vectors

    def _deliver(self, finished: list[FinishedRequest]) -> None:
        for request in finished:
            future = self._futures.pop(request.request_id)
            if isinstance(request.result, LlmosError):
                future.set_exception(request.result)
            else:
                future.set_result(request.result)
        self._wake.notify_all()

    def _break_down(self, error: BaseException) -> None:
        """Fail all requests, reject new ones, and call `on_fatal`."""
        _log.error("encoder.broken", exc_info=error)
        with self._wake:
            self._broken = True
            self._deliver(self._batcher.fail_all(Internal("the encoder broke down")))
        self._on_fatal(error)
