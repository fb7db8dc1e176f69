"""The runner's thread: every future ends once, failures cost their own requests, nothing is taken while it drains."""

import asyncio
import threading
import time

import numpy as np
import pytest

from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import EncodeRequest, TokenRow
from services.inference.encoder.runner import EncoderRunner
from shared.errors import Conflict, Draining, Internal, InvalidInput, Overloaded, ReplicaLost, Unavailable

LIMITS = EncoderLimits(batch_tokens=32, fill_tokens=0, max_waiting=2)


class Gate:
    """A graph that waits in each batch until it is let through, and fails on demand."""

    def __init__(self, *, shut: bool = False) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.fail = 0
        self.closed = False
        if not shut:
            self.open.set()

    def run(self, rows):
        self.entered.set()
        assert self.open.wait(30)
        self.batches.append(len(rows))
        if self.fail:
            self.fail -= 1
            raise RuntimeError("out of luck")
        return np.array([[row.ids[0], len(row)] for row in rows], np.float32)

    def close(self):
        self.closed = True


@pytest.fixture
def started():
    runners = []

    def start(graph, **options):
        runner = EncoderRunner(graph, LIMITS, max_len=16, **options)
        runners.append((runner, graph))
        runner.start()
        return runner

    yield start
    for runner, graph in runners:
        graph.open.set()
        runner.close()
        assert graph.closed


def request(name, *lengths):
    return EncodeRequest(name, tuple(TokenRow(np.full(n, i, np.int64)) for i, n in enumerate(lengths)))


def test_vectors_come_in_the_order_of_the_rows(started):
    runner = started(Gate())
    encoded = runner.submit(request("a", 3, 16, 1, 8)).result(10)
    assert [tuple(vector) for vector in encoded.vectors] == [(0, 3), (1, 16), (2, 1), (3, 8)]
    assert encoded.queue_s >= 0
    assert encoded.compute_s >= 0


def test_what_waits_meanwhile_is_computed_together(started):
    graph = Gate(shut=True)
    runner = started(graph)
    futures = [runner.submit(request("a", 8))]
    assert graph.entered.wait(10)
    futures += [runner.submit(request(name, 8)) for name in "bc"]
    graph.open.set()
    for future in futures:
        future.result(10)
    assert graph.batches == [1, 2]


def test_a_full_queue_refuses_with_a_time_and_counts(started):
    graph = Gate(shut=True)
    runner = started(graph)
    futures = [runner.submit(request("a", 8))]
    assert graph.entered.wait(10)
    futures += [runner.submit(request(name, 8)) for name in "bc"]
    with pytest.raises(Overloaded) as refused:
        runner.submit(request("d", 8))
    assert refused.value.retry_after
    load = runner.load()
    assert (load.running, load.waiting, load.queued_tokens, load.counters.rejected) == (1, 2, 16, 1)
    graph.open.set()
    for future in futures:
        future.result(10)
    load = runner.load()
    assert (load.running, load.waiting, load.queued_tokens, load.counters.prompt_tokens) == (0, 0, 0, 24)


def test_a_cancelled_request_ends_at_once_and_its_rows_are_not_computed(started):
    graph = Gate(shut=True)
    runner = started(graph)
    first = runner.submit(request("first", 8))
    assert graph.entered.wait(10)
    waiting = runner.submit(request("waiting", 8))
    runner.cancel("waiting")
    runner.cancel("waiting")
    runner.cancel("unknown")
    with pytest.raises(Conflict, match="cancelled"):
        waiting.result(10)
    runner.cancel("first")  # is being computed
    with pytest.raises(Conflict):
        first.result(10)
    graph.open.set()
    assert runner.submit(request("first", 8)).result(10).vectors
    assert graph.batches == [1, 1]
    assert runner.load().counters.cancelled == 2


def test_a_batch_that_fails_costs_its_own_requests_only(started):
    graph = Gate()
    graph.fail = 1
    runner = started(graph)
    with pytest.raises(Internal, match="error id"):
        runner.submit(request("a", 8)).result(10)
    assert runner.submit(request("b", 8)).result(10).vectors


def test_a_graph_that_always_fails_breaks_the_runner(started):
    graph = Gate()
    graph.fail = 99
    fatal = threading.Event()
    runner = started(graph, on_fatal=lambda _: fatal.set())
    for name in "abc":
        with pytest.raises(Internal):
            runner.submit(request(name, 8)).result(10)
    assert fatal.wait(10)
    with pytest.raises(Unavailable):
        runner.submit(request("d", 8))


def test_draining_finishes_what_is_here_and_takes_nothing_new(started):
    graph = Gate(shut=True)
    runner = started(graph)
    future = runner.submit(request("a", 8))
    runner.drain()
    with pytest.raises(Draining):
        runner.submit(request("b", 8))
    assert not runner.wait_idle(0.01)
    graph.open.set()
    assert runner.wait_idle(10)
    assert future.done()


def test_closing_ends_what_waits_with_a_retryable_error():
    graph = Gate(shut=True)
    runner = EncoderRunner(graph, LIMITS, max_len=16)
    runner.start()
    runner.submit(request("a", 8))
    assert graph.entered.wait(10)
    waiting = runner.submit(request("b", 16, 16, 16))
    threading.Timer(0.05, graph.open.set).start()
    runner.close()
    with pytest.raises(ReplicaLost):
        waiting.result(10)


async def test_a_row_that_is_too_long_is_refused_where_it_is_submitted(started):
    runner = started(Gate())
    with pytest.raises(InvalidInput):
        runner.submit(request("a", 17))
    encoded = await asyncio.wrap_future(runner.submit(request("a", 16)))
    assert len(encoded.vectors) == 1


def test_an_encoder_whose_graph_hangs_says_so_and_recovers(started):
    graph, now = Gate(), [100.0]
    runner = started(graph, clock=lambda: now[0])
    runner.submit(request("measured", 8)).result(10)
    graph.open.clear()
    graph.entered.clear()
    hanging = runner.submit(request("hanging", 8))
    assert graph.entered.wait(10)

    def stalled_after(seconds: float) -> float:
        for _ in range(round(2 * seconds)):
            now[0] += 0.5
            runner.load()
        return runner.load().stalled_s

    assert stalled_after(4) == 0
    assert stalled_after(3) > 5
    with pytest.raises(Unavailable, match="stalled"):
        runner.submit(request("next", 8))
    runner.cancel("hanging")
    assert runner.load().stalled_s > 5, "nobody waits any more, and the batch still hangs"
    graph.open.set()
    with pytest.raises(Conflict):
        hanging.result(10)
    assert runner.wait_idle(10)
    deadline = time.monotonic() + 10
    while runner.load().stalled_s:
        assert time.monotonic() < deadline
    assert runner.submit(request("after", 8)).result(10).vectors
    assert stalled_after(600) == 0
