"""Which requests for tensors are computed together, and what each of them gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.tensor.batcher import TensorBatch, TensorBatcher
from services.inference.tensor.compute import compute
from services.inference.tensor.limits import TensorLimits
from services.inference.tensor.request import TensorRequest
from shared.errors import Conflict, InvalidInput, Overloaded, ReplicaLost


def request(name, rows=1, *, width=2, tenant="", alone=False, value=1.0):
    x = np.full((rows, width), value, np.float32)
    return TensorRequest(name, {"x": x}, ("y",), None if alone else rows, tenant)


def names(batch):
    return [each.id for each in batch.requests]


def admitted(*requests, **limits):
    batcher = TensorBatcher(TensorLimits(**limits))
    for each in requests:
        batcher.admit(each, 1.0)
    return batcher


def test_requests_of_one_signature_are_computed_together_up_to_max_batch():
    batcher = admitted(request("a", 2), request("b", 1, width=3), request("c", 2), request("d", 1), max_batch=4)
    batch = batcher.plan(2.0)
    assert (names(batch), batch.size) == (["a", "c"], 4)
    finished = batcher.complete(batch, [{"y": 1}, {"y": 2}], 5.0)
    assert [(each.request_id, each.result.outputs) for each in finished] == [("a", {"y": 1}), ("c", {"y": 2})]
    assert (finished[0].result.queue_s, finished[0].result.compute_s) == (1.0, 3.0)
    assert names(batcher.plan(5.0)) == ["b"]
    batcher.check_integrity()


def test_rows_that_depend_on_one_another_are_computed_alone():
    batcher = admitted(request("a", alone=True), request("b", alone=True))
    assert names(batcher.plan(1.0)) == ["a"]


def test_tenants_take_turns():
    flood = [request(f"f{index}", 2, tenant="flood") for index in range(6)]
    batcher = admitted(*flood, request("late", 2, tenant="other"), max_batch=2)
    order = []
    while (batch := batcher.plan(1.0)) is not None:
        order += names(batch)
        batcher.complete(batch, [{}], 1.0)
    assert order.index("late") < 3


def test_a_batch_waits_for_its_time_or_until_it_is_full():
    batcher = admitted(request("a"), max_batch=3, max_delay_s=0.1)
    assert batcher.due(1.05) == 1.1
    batcher.admit(request("wide", width=5), 1.05)
    assert batcher.due(1.05) == 1.1
    batcher.admit(request("b", 2), 1.06)
    assert batcher.due(1.06) == 1.06


def test_the_queue_has_bounds_of_requests_and_bytes():
    batcher = admitted(request("a", 4), max_waiting=2, max_queued_bytes=40)
    with pytest.raises(Overloaded, match="1 requests with 32 bytes"):
        batcher.admit(request("b", 2), 1.0)
    batcher.admit(request("c", 1), 1.0)
    with pytest.raises(Overloaded):
        batcher.admit(request("d", 0), 1.0)
    with pytest.raises(Conflict):
        batcher.admit(request("a"), 1.0)
    alone = admitted(request("huge", 1000), max_queued_bytes=10)
    assert names(alone.plan(1.0)) == ["huge"]


def test_what_was_cancelled_gets_nothing_also_where_another_has_its_id():
    batcher = admitted(request("a"), request("b"))
    batch = batcher.plan(1.0)
    assert batcher.cancel("a")
    assert not batcher.cancel("a")
    batcher.admit(request("a"), 2.0)
    assert [each.request_id for each in batcher.complete(batch, [{}, {}], 3.0)] == ["b"]
    assert len(batcher) == 1
    failed = batcher.fail_all(ReplicaLost("gone"))
    assert [each.request_id for each in failed] == ["a"]
    assert len(batcher) == 0
    batcher.check_integrity()


class Doubling:
    """`y` = 2 x; does not take 13."""

    def __init__(self):
        self.runs = []

    def run(self, inputs, outputs):
        self.runs.append(len(inputs["x"]))
        if (inputs["x"] == 13).any():
            raise InvalidInput("13 is out of bounds")
        return dict.fromkeys(outputs, 2 * inputs["x"])

    def close(self):
        pass


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 7))
def test_each_request_gets_its_own_rows_whatever_the_batch(counts, max_batch):
    graph = Doubling()
    requests = tuple(request(str(index), rows, value=index) for index, rows in enumerate(counts))
    outcome = compute(graph, TensorBatch(requests), max_batch=max_batch)
    assert [result["y"].shape for result in outcome] == [(rows, 2) for rows in counts]
    assert all((result["y"] == 2 * index).all() for index, result in enumerate(outcome))
    assert all(rows <= max_batch for rows in graph.runs)


def test_a_wrong_request_fails_alone():
    outcome = compute(Doubling(), TensorBatch((request("a"), request("b", value=13), request("c"))), max_batch=8)
    assert [isinstance(each, InvalidInput) for each in outcome] == [False, True, False]
