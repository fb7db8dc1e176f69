"""The CUDA device's own code on host memory: float16, device tensors, inputs sent before each run, copies by row."""

import ctypes
from pathlib import Path

import onnxruntime as ort

from services.inference.runtime.cuda import CudaDevice
from services.inference.runtime.device_kv import Copier
from services.inference.runtime.session import session_options


class HostCopier:
    """Implements `Copier` with the C library, and counts."""

    def __init__(self) -> None:
        self.copies = self.waits = 0

    def rows(self, to: int, to_pitch: int, source: int, source_pitch: int, *, width: int, count: int) -> None:
        self.copies += 1
        for row in range(count):
            ctypes.memmove(to + row * to_pitch, source + row * source_pitch, width)

    def wait(self) -> None:
        self.waits += 1


class HostAsGpu(CudaDevice):
    memory = "cpu"

    def session(self, model: Path, *, threads: int, kv_elements: int) -> ort.InferenceSession:
        """As CUDA's, it knows ONNX Runtime's operators and none of LLMOS's."""
        assert kv_elements > 0
        return ort.InferenceSession(model, session_options(threads), providers=["CPUExecutionProvider"])

    def copier(self) -> Copier:
        return HostCopier()
