"""The thread that loops plan -> run -> complete."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import structlog

from services.inference.batching.batch import AnyBatch, Batcher, Finished, Result
from services.inference.engine.batch_sizes import BatchSizes
from services.inference.engine.engine import end_process
from services.inference.engine.exponential_mean import ExponentialMean
from services.inference.engine.stall import StallDetector
from shared.contracts.load import EngineCounters, EngineLoad
from shared.errors import Conflict, Draining, Internal, LlmosError, Overloaded, ReplicaLost, Unavailable

_log = structlog.get_logger("llmos.batching")
_FAILURES = 3
"""Consecutive failed batches after which the graph counts as broken."""
_RETRY_S = 1.0
"""Seconds that a client is asked to wait before the graph's throughput is known."""
_WEIGHT = 0.1
"""Of the newest batch in the mean throughput."""


class Named(Protocol):
    """A request."""

    @property
    def id(self) -> str:
        """Its own among those that run."""
        ...


Request = TypeVar("Request", bound=Named)
Item = TypeVar("Item")


class BatchRunner(Generic[Request, AnyBatch, Item, Result]):
    """Runs requests on a graph in a thread of its own. It computes what waits as soon as it is free, and it is due.

    Args:
        batcher: Decides what is computed together.
        compute: Computes a batch; called on the runner's thread only. What it raises counts as a fault of the graph:
            an error of one entry is to be an `Item`.
        free: Frees the graph's memory; called by `close`.
        max_len: Stands in the load report as the tokens that a sequence may have.
        slots: Stands in the load report as what the replica takes at once.
        on_fatal: Called on the runner's thread when it can't go on, after all requests finished with an error.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        batcher: Batcher[Request, AnyBatch, Item, Result],
        compute: Callable[[AnyBatch], Sequence[Item]],
        free: Callable[[], None],
        *,
        max_len: int = 1,
        slots: int = 1,
        on_fatal: Callable[[BaseException], None] = end_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute_batch = compute
        self._free = free
        self._batcher = batcher
        self._max_len = max_len
        self._slots = slots
        self._on_fatal = on_fatal
        self._clock = clock
        self._futures: dict[str, Future[Result]] = {}
        self._counters = EngineCounters()
        self._batch_sizes = BatchSizes()
        self._throughput = ExponentialMean(_WEIGHT)
        """Units of work per second."""
        self._stall = StallDetector()
        self._computing = False
        self._failures = 0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="batches", daemon=True)
        self._draining = False
        self._closing = False
        self._broken = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: Request) -> "Future[Result]":
        """Queue a request. Thread-safe; the future gets its result, or the error that ended it.

        Raises:
            Overloaded: The queue is at its bound.
            Draining: Nothing new is taken.
            Conflict: A request with this id is running.
            InvalidInput: It can be part of no batch.
            Unavailable: The runner broke down, or has stalled.
        """
        with self._wake:
            if self._broken:
                raise Unavailable("the graph of this replica broke down; try another replica")
            if self._draining or self._closing:
                raise Draining("this replica is draining; try another replica")
            if self._stall.stalled:
                raise Unavailable("the graph of this replica has stalled; try another replica")
            try:
                self._batcher.admit(request, self._clock())
            except Overloaded as error:
                self._counters.rejected += 1
                raise Overloaded(error.message, retry_after=self._wait() or _RETRY_S) from None
            future: Future[Result] = Future()
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
                self._deliver([Finished(request_id, error)])

    def drain(self) -> None:
        """Reject new requests from now on; running and waiting requests are finished."""
        with self._wake:
            self._draining = True
            self._wake.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no request is active, at most `timeout` seconds; whether none is."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._futures, timeout)

    def stalled_s(self) -> float:
        """Seconds without a batch if the runner has stalled, else 0. To be called at least once a second."""
        with self._wake:
            return self._stall.look(self._clock(), working=self._computing or bool(self._futures))

    def load(self) -> EngineLoad:
        """How busy it is; a batch counts as a step, a text or row as a sequence; `mean_batch` since the last call."""
        with self._wake:
            batcher = self._batcher
            return EngineLoad(
                running=batcher.running,
                waiting=batcher.waiting,
                queued_tokens=batcher.queued,
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
        self._free()

    def _wait(self) -> float:
        return self._batcher.queued / self._throughput.value if self._throughput.value else 0.0

    def _loop(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._compute(batch)
            with self._wake:
                self._deliver(self._batcher.fail_all(ReplicaLost("the replica was stopped")))
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: nothing above it would see the error
            self._break_down(error)

    def _next_batch(self) -> AnyBatch | None:
        """Sleep until there is something to do; None when the runner closes."""
        with self._wake:
            while not self._closing and (wait := self._until_due()) != 0.0:
                self._wake.wait(wait)
            if self._closing:
                return None
            now = self._clock()
            batch = self._batcher.plan(now)
            assert batch is not None, "something waits"
            self._stall.begin(now, prompt_tokens=batch.padded)
            self._computing = True
            return batch

    def _until_due(self) -> float | None:
        """Seconds until a batch is to be computed; None: nothing waits."""
        if not self._batcher.has_work:
            return None
        now = self._clock()
        return 0.0 if self._draining else max(0.0, self._batcher.due(now) - now)

    def _compute(self, batch: AnyBatch) -> None:
        began = self._clock()
        outcome = self._run(batch)
        with self._wake:
            now = self._clock()
            self._stall.end(now)
            self._computing = False
            self._deliver(self._batcher.complete(batch, outcome, now))
            self._batch_sizes.add(batch.size)
            self._counters.steps += 1
            self._counters.prompt_tokens += batch.work
            if now > began:
                self._throughput.add(batch.work / (now - began))

    def _run(self, batch: AnyBatch) -> Sequence[Item] | LlmosError:
        try:
            outcome = self._compute_batch(batch)
        except BaseException as error:
            error_id = uuid.uuid4().hex[:12]
            _log.exception("batch.failed", error_id=error_id, size=batch.size)
            self._failures += 1
            if self._failures >= _FAILURES:
                raise
            return (
                error
                if isinstance(error, LlmosError)
                else Internal(f"the model failed while computing; error id {error_id}")
            )
        self._failures = 0
        return outcome

    def _deliver(self, finished: list[Finished[Result]]) -> None:
        for request in finished:
            future = self._futures.pop(request.request_id)
            if isinstance(request.result, LlmosError):
                future.set_exception(request.result)
            else:
                future.set_result(request.result)
        self._wake.notify_all()

    def _break_down(self, error: BaseException) -> None:
        """Fail all requests, reject new ones, and call `on_fatal`."""
        _log.error("graph.broken", exc_info=error)
        with self._wake:
            self._broken = True
            self._deliver(self._batcher.fail_all(Internal("the graph broke down")))
        self._on_fatal(error)
