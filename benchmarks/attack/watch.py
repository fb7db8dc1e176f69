"""What is measured while an attack runs: the gateway's loop, its memory and a replica's, and a quiet tenant."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import psutil

from benchmarks.attack.target import TIMEOUT_S, Target

EVERY_S = 0.02
"""Between two looks at the gateway's loop."""


@dataclass(slots=True)
class Felt:
    """What others felt; seconds and bytes."""

    lag: list[float] = field(default_factory=list)
    """Times of `/healthz`, which does nothing: what it takes is what the event loop was late."""
    chats: list[float] = field(default_factory=list)
    """Times of the quiet tenant's chats."""
    failed: int = 0
    """Chats of the quiet tenant that failed."""
    memory: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each process: before, and the most."""


@contextmanager
def watching(target: Target, processes: dict[str, psutil.Process]) -> Iterator[Felt]:
    """Measure while inside."""
    felt = Felt()
    felt.memory = {name: (process.memory_info().rss,) * 2 for name, process in processes.items()}
    over = threading.Event()
    threads = [
        threading.Thread(target=_repeat, args=(over, watch), daemon=True)
        for watch in (_lag(target, felt), _chat(target, felt), _memory(processes, felt))
    ]
    for thread in threads:
        thread.start()
    try:
        yield felt
    finally:
        over.set()
        for thread in threads:
            thread.join(TIMEOUT_S)


def _repeat(over: threading.Event, step: Callable[[], float]) -> None:
    while not over.is_set():
        over.wait(step())


def _lag(target: Target, felt: Felt) -> Callable[[], float]:
    client = httpx.Client(base_url=target.url, timeout=TIMEOUT_S, trust_env=False)

    def look() -> float:
        begun = time.perf_counter()
        client.get("/healthz")
        felt.lag.append(time.perf_counter() - begun)
        return EVERY_S

    return look


def _chat(target: Target, felt: Felt) -> Callable[[], float]:
    def ask() -> float:
        begun = time.perf_counter()
        try:
            failed = target.chat("Say hello.", key=target.quiet).status_code != httpx.codes.OK
        except httpx.HTTPError:
            failed = True
        felt.failed += failed
        if not failed:
            felt.chats.append(time.perf_counter() - begun)
        return 0.2

    return ask


def _memory(processes: dict[str, psutil.Process], felt: Felt) -> Callable[[], float]:
    def look() -> float:
        for name, process in processes.items():
            before, most = felt.memory[name]
            felt.memory[name] = before, max(most, process.memory_info().rss)
        return 0.1

    return look
