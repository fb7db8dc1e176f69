"""Where stages run: in this process, in several, or on a Ray cluster. The result is the same everywhere."""

import ctypes
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context
from typing import Protocol

from devtools.data.stage import Block, Output, Stage, run_block
from shared.errors import Unavailable

AHEAD = 2
"""Blocks for each process that are read before their results are needed."""
_PR_SET_PDEATHSIG = 1


class Executor(Protocol):
    """Runs a stage."""

    def run(self, stage: Stage, blocks: Iterable[Block]) -> Iterator[Output]:
        """What the blocks give, in their order. Few blocks are in memory at a time."""


class Here:
    """Processes of this machine.

    Args:
        processes: 1: all is done in this one.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes

    def run(self, stage: Stage, blocks: Iterable[Block]) -> Iterator[Output]:
        """What the blocks give, in their order."""
        blocks = iter(blocks)
        first = list(islice(blocks, 2))
        if self._processes == 1 or len(first) < 2:  # a process takes a second to start
            for block in chain(first, blocks):
                yield run_block(stage, block)
            return
        with ProcessPoolExecutor(
            self._processes, get_context("spawn"), initializer=_start, initargs=(stage,)
        ) as pool:
            try:
                yield from in_order(
                    lambda block: pool.submit(_work, block), chain(first, blocks), AHEAD * self._processes, _result
                )
            except BrokenProcessPool as error:
                raise Unavailable("a process was killed while it prepared rows; is there enough memory?") from error
            finally:
                pool.shutdown(cancel_futures=True)


def in_order(
    submit: Callable[[Block], object],
    blocks: Iterable[Block],
    ahead: int,
    result: Callable[[object], Output],
) -> Iterator[Output]:
    """Submit blocks, `ahead` of them before the first result is waited for; results in the order of the blocks."""
    running: deque[object] = deque()
    for block in blocks:
        running.append(submit(block))
        if len(running) >= ahead:
            yield result(running.popleft())
    while running:
        yield result(running.popleft())


def _result(future: object) -> Output:
    assert isinstance(future, Future)
    output: Output = future.result()
    return output


_STAGE: list[Stage] = []


def _start(stage: Stage) -> None:
    """In a new process: note the stage, end with the parent, and leave Ctrl-C to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _STAGE[:] = [stage]


def _work(block: Block) -> Output:
    return run_block(_STAGE[0], block)
