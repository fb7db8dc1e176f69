"""How long an event loop of this process does not turn, measured from within it."""

import asyncio
import os
import statistics
import threading
import time
from typing import Self

import psutil

EVERY_S = 0.005


class LagProbe:
    """Measures a loop while the block runs; the loop runs in another thread.

    A busy machine stops every loop now and then. So a plain thread that sleeps as long as the loop does is the
    baseline of the same seconds: what it misses is the machine's doing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stop = threading.Event()
        self.lags: list[float] = []
        """Seconds that a timer of the loop came too late."""
        self.baseline: list[float] = []
        """The same of a sleeping thread."""

    def __enter__(self) -> Self:
        self._task = asyncio.run_coroutine_threadsafe(self._probe(), self._loop)
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._task.result(30)

    def resident_mb(self) -> float:
        return psutil.Process(os.getpid()).memory_info().rss / (1 << 20)

    def assert_below(self, seconds: float) -> None:
        """The loop never stood still for `seconds` longer than the machine lets a sleeping thread sleep."""
        worst, excuse = max(self.lags), max(self.baseline)
        assert worst < seconds + excuse, (
            f"the loop stood still for {worst * 1000:.0f} ms (median {statistics.median(self.lags) * 1000:.1f});"
            f" a sleeping thread was late by {excuse * 1000:.0f} ms at most"
        )

    async def _probe(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(EVERY_S)
            self.lags.append(time.perf_counter() - began - EVERY_S)

    def _sleep(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            time.sleep(EVERY_S)
            self.baseline.append(time.perf_counter() - began - EVERY_S)
