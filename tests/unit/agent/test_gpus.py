"""The GPU inventory, with a driver library that answers as NVIDIA's does."""

# ruff: noqa: N802  # the names are NVIDIA's

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.inference.agent.gpus import find_gpus, query, visible
from services.inference.agent.replica_process import replica_environment
from services.inference.runtime import session
from shared.contracts.scheduler import Gpu, ReplicaAssignment

GIB = 1 << 30


class Driver(SimpleNamespace):
    """As `pynvml`: a GPU per entry of `free`."""

    class NVMLError(Exception):
        pass

    def __init__(self, *free, fails_at=""):
        super().__init__(free=free, fails_at=fails_at, open=0)

    def _may_fail(self, name):
        if name == self.fails_at:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlInit(self):
        self._may_fail("init")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.free)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}aaa".encode()  # older drivers' bindings answer bytes

    def nvmlDeviceGetName(self, handle):
        return f"NVIDIA L{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle):
        self._may_fail("memory")
        return SimpleNamespace(free=self.free[handle], total=2 * self.free[handle])


GPUS = query(Driver(10 * GIB, 20 * GIB, 30 * GIB))


def test_each_gpu_is_offered_with_most_of_its_free_memory():
    driver = Driver(10 * GIB)
    assert query(driver) == (Gpu(id="GPU-0aaa", name="NVIDIA L0", memory=9 * GIB),)
    assert driver.open == 0


@pytest.mark.parametrize("fails_at", ["init", "memory"])
def test_a_driver_that_does_not_answer_means_no_gpus(fails_at):
    driver = Driver(GIB, fails_at=fails_at)
    assert query(driver) == ()
    assert driver.open == 0


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("GPU-1a", [1]),
        ("GPU-", []),  # not the beginning of one alone
        ("0,7,1", [0]),  # as CUDA: nothing after an entry that is none
        ("-1", []),
        ("1,1", [1]),
    ],
)
def test_the_gpus_of_a_node_can_be_limited_as_those_of_any_program(setting, expected):
    assert visible(GPUS, setting) == tuple(GPUS[index] for index in expected)


def test_without_the_drivers_library_there_are_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus({}) == ()


def test_gpus_that_this_onnx_runtime_can_not_use_are_not_offered(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Driver(10 * GIB, 20 * GIB))
    assert find_gpus({}) == ()  # the test environment has ONNX Runtime for the CPU
    monkeypatch.setattr(session, "has_cuda", lambda: True)
    assert [gpu.id for gpu in find_gpus({"CUDA_VISIBLE_DEVICES": "1"})] == ["GPU-1aaa"]


def test_a_replica_sees_the_gpu_that_it_was_given_and_no_other():
    on_cpu = ReplicaAssignment.EXAMPLE
    on_gpu = on_cpu.model_copy(update={"device": "cuda", "gpu": "GPU-1aaa"})
    seen = [
        replica_environment(one, node="node-a", drain_timeout=1.0, nats_url="nats://h", files=Path("/files"))[
            "CUDA_VISIBLE_DEVICES"
        ]
        for one in (on_cpu, on_gpu)
    ]
    assert seen == ["", "GPU-1aaa"]
