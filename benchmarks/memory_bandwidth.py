"""How fast this machine reads memory: the bound of a decode step, which reads every weight once."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_BYTES = 1 << 29
"""Far beyond any cache."""


def read_bandwidth(threads: int, *, rounds: int = 5) -> float:
    """Bytes per second that `threads` threads read together; the best of some rounds."""
    parts = np.array_split(np.ones(_BYTES // 4, dtype=np.float32), threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            begun = time.perf_counter()
            list(pool.map(np.max, parts))
            best = min(best, time.perf_counter() - begun)
    return _BYTES / best
