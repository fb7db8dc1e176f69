"""The thread that loops plan -> run -> apply."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog

from services.inference.engine.batch_sizes import BatchSizes
from services.inference.engine.batcher import Batcher
from services.inference.engine.decoder import Decoder
from services.inference.engine.executor import Executor
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Outcome, Plan
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.stall import StallDetector
from shared.contracts.gateway import FinishReason
from shared.contracts.load import EngineLoad
from shared.errors import Draining, Internal, Overloaded, ReplicaLost, Unavailable

_log = structlog.get_logger("llmos.engine")

OnStep = Callable[[list[SequenceUpdate]], None]


def end_process(error: BaseException) -> None:
    """End the process at once with exit code 70: its supervisor starts a new one."""
    _log.critical("engine.unrecoverable", error=str(error))
    os._exit(70)


class Engine:
    """Runs sequences on a decoder in a thread of its own.

    Args:
        decoder: Owned by the engine from now on: used on its thread only, closed by `close`.
        limits: Bounds of a step and of the queue.
        on_step: Called on the engine thread after every step with all updates of that step. It must return fast,
            and must not raise. It may call `submit` and `cancel`.
        on_fatal: Called on the engine thread when the engine can't continue, after all sequences ended with an error.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        decoder: Decoder,
        limits: EngineLimits,
        on_step: OnStep,
        *,
        on_fatal: Callable[[BaseException], None] = end_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._executor = Executor(decoder, clock)
        self._limits = limits
        self._batcher = Batcher(
            slots=decoder.slots,
            max_len=decoder.max_len,
            vocab_size=decoder.vocab_size,
            limits=limits,
            batch_invariant=decoder.batch_invariant,
        )
        if limits.cache_blocks:
            decoder.reserve_blocks(limits.cache_blocks, limits.prefill_chunk)
        self._on_step = on_step
        self._on_fatal = on_fatal
        self._clock = clock
        self._counters = self._batcher.counters
        self._batch_sizes = BatchSizes()
        self._stall = StallDetector()
        self._pending: list[SequenceUpdate] = []
        """Updates that are not published yet; only the engine's thread uses them."""
        self._wake = threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._busy = False
        self._draining = False
        self._closing = False
        self._broken = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: SequenceRequest) -> None:
        """Queue a request. Thread-safe; its updates follow through `on_step`.

        Raises:
            Overloaded: The queue is at its bound.
            Draining: New requests are refused.
            ContextLengthExceeded: Prompt and max_tokens do not fit.
            InvalidInput: The prompt is empty or has an unknown token id.
            Conflict: A request with this id is running.
            Unavailable: The engine broke down, or has stalled.
        """
        with self._accepting():
            self._batcher.admit(request, self._clock())
            self._executor.add(request)
            self._wake.notify()

    def check_queue(self, tenant: str) -> None:
        """Raise as `submit` would if no request of this tenant is accepted now. Thread-safe.

        Call it before a prompt is rendered and tokenised: under overload that would be most of the work.
        """
        with self._accepting():
            self._batcher.check_queue(tenant)

    @contextmanager
    def _accepting(self) -> Iterator[None]:
        """Hold the lock, if new requests are accepted; count those that are refused."""
        with self._wake:
            if self._broken:
                raise Unavailable("the engine of this replica broke down; try another replica")
            if self._draining or self._closing:
                raise Draining("this replica is draining; try another replica")
            if self._stall.stalled:
                raise Unavailable("the engine of this replica has stalled; try another replica")
            try:
                yield
            except Overloaded:
                self._counters.rejected += 1
                raise

    def charge(self, tenant: str, seconds: float) -> None:
        """Count work that was done for a tenant before its requests came here. Thread-safe."""
        with self._wake:
            self._batcher.charge(tenant, seconds)

    def cancel(self, request_id: str) -> None:
        """End a request within one step, with finish CANCELLED. Thread-safe; unknown ids are ignored."""
        with self._wake:
            if self._batcher.cancel(request_id):
                self._wake.notify()

    def drain(self) -> None:
        """Refuse new requests from now on; those that run continue to their end."""
        with self._wake:
            self._draining = True

    @property
    def idle(self) -> bool:
        """Whether no sequence is alive and all updates were delivered."""
        with self._wake:
            return not self._busy and not self._batcher.sequences

    def stalled_s(self) -> float:
        """Seconds without a step if the engine has stalled, else 0. To be called at least once a second."""
        with self._wake:
            return self._stall.look(self._clock(), working=self._busy or bool(self._batcher.sequences))

    def load(self) -> EngineLoad:
        """The current load. `mean_batch` counts since the last call."""
        with self._wake:
            batcher = self._batcher
            return EngineLoad(
                running=batcher.running,
                waiting=batcher.waiting,
                queued_tokens=batcher.queued_tokens,
                free_slots=batcher.free_slots,
                slots=self._decoder.slots,
                max_len=self._decoder.max_len,
                draining=self._draining,
                max_batch=self._batch_sizes.largest,
                mean_batch=self._batch_sizes.take_mean(),
                cached_blocks=batcher.cached_blocks,
                cache_blocks=self._limits.cache_blocks,
                stalled_s=self.stalled_s(),
                wait_s=batcher.wait_s(),
                counters=replace(self._counters),
            )

    def close(self) -> None:
        """Stop the thread after its step and close the decoder. Sequences that still run end with `ReplicaLost`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._decoder.close()

    def _loop(self) -> None:
        try:
            while self._wait_for_work():
                self._step()
            with self._wake:
                self._collect(self._batcher.fail_all(ReplicaLost("the replica was stopped"), self._clock()))
            self._publish()
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: nothing above it would see the error
            self._break_down(error)

    def _wait_for_work(self) -> bool:
        """Sleep until there is work; False when the engine closes."""
        with self._wake:
            self._busy = False
            while not self._closing and (idle_s := self._batcher.idle_s(self._clock())) != 0.0:
                self._wake.wait(idle_s)
            self._busy = True
            return not self._closing

    def _step(self) -> None:
        """Plan a step, publish the results of the step before, compute.

        Results are published right before the next computation: the subscriber needs the GIL, which this thread
        releases only while it computes. Published earlier, the subscriber would be woken twice.
        """
        with self._wake:
            now = self._clock()
            plan, ended = self._batcher.plan(now)
            self._stall.begin(now, prompt_tokens=plan.prompt_tokens)
            self._collect(ended)
        self._publish()
        if plan:
            outcome = self._executor.run(plan)
            with self._wake:
                now = self._clock()
                self._collect(self._batcher.apply(plan, outcome, now))
                self._count(plan, outcome)
                self._stall.end(now, computed=bool(plan.decode or plan.prefill))
                last = self._batcher.idle_s(now) != 0.0
            if last:
                self._publish()

    def _collect(self, updates: list[SequenceUpdate]) -> None:
        """Queue updates for `_publish` and remove the requests that they end; the caller holds the lock."""
        self._pending += updates
        for update in updates:
            if update.finish is not None:
                self._executor.remove(update.request_id)

    def _count(self, plan: Plan, outcome: Outcome) -> None:
        if plan.decode or plan.prefill:
            self._batch_sizes.add(plan.batch)
            counters = self._counters
            counters.steps += 1
            counters.prompt_tokens += plan.prompt_tokens
            counters.generated_tokens += sum([len(update.token_ids) for update in self._pending])
            counters.draft_tokens += plan.draft_tokens
            counters.accepted_tokens += outcome.accepted_tokens

    def _publish(self) -> None:
        updates, self._pending = self._pending, []
        if updates:
            self._counters.cancelled += sum([update.finish is FinishReason.CANCELLED for update in updates])
            self._on_step(updates)

    def _break_down(self, error: BaseException) -> None:
        """End every sequence with an error, refuse new requests, and let the owner end the process."""
        _log.error("engine.broken", exc_info=error)
        with self._wake:
            self._broken = True
            self._busy = False
            self._collect(self._batcher.fail_all(Internal("the engine broke down"), self._clock()))
        try:
            self._publish()
        finally:
            self._on_fatal(error)
