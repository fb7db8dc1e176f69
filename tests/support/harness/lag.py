"""How long an event loop of this process does not turn, measured from within it."""

import asyncio
import gc
import os
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Self

import psutil

EVERY_S = 0.005


class LagProbe:
    """Measures a loop while the block runs; the loop runs in another thread.

    A busy machine stops every loop now and then. So a lag counts only as far as this process computed meanwhile, be
    it in the loop's thread or in one that held Python's lock; and a plain thread that sleeps as long as the loop does
    is the baseline of the same seconds. What tests have made before is kept from the garbage collector, which would
    walk through it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stop = threading.Event()
        self.lags: list[float] = []
        """Seconds that a timer of the loop came too late while this process computed."""
        self.baseline: list[float] = []
        """The same of a sleeping thread."""

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()
        self._task = asyncio.run_coroutine_threadsafe(self._probe(), self._loop)
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._task.result(30)
        gc.unfreeze()

    def resident_mb(self) -> float:
        return psutil.Process(os.getpid()).memory_info().rss / (1 << 20)

    @property
    def excess(self) -> float:
        """Seconds that the loop stood still at most, beyond the most that a sleeping thread was late."""
        return max(self.lags) - max(self.baseline)

    def __str__(self) -> str:
        worst, median, excuse = (
            1000 * each for each in (max(self.lags), statistics.median(self.lags), max(self.baseline))
        )
        return f"{worst:.0f} ms (median {median:.1f}); a sleeping thread was late by {excuse:.0f} ms at most"

    async def _probe(self) -> None:
        while not self._stop.is_set():
            began, computed = time.perf_counter(), time.process_time()
            await asyncio.sleep(EVERY_S)
            late = time.perf_counter() - began - EVERY_S
            self.lags.append(min(late, time.process_time() - computed))

    def _sleep(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            time.sleep(EVERY_S)
            self.baseline.append(time.perf_counter() - began - EVERY_S)


def assert_turns(probes: Sequence[LagProbe], seconds: float) -> None:
    """In the best of several attempts, the loop never stood still for `seconds`.

    What stops it in every attempt is ours; what stops it in one of them may be the machine's.
    """
    assert min(probe.excess for probe in probes) < seconds, "; ".join(map(str, probes))
