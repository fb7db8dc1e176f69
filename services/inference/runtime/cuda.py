"""A GPU through ONNX Runtime's CUDA provider. What of this was never run on a GPU is listed in docs/cuda.md.

    once        keys and values of all slots as device tensors, bound by address as past and as present
    each step   token ids, lengths and output rows go in (a few kilobytes), float32 logits of those rows come out

`IOBinding` copies a host input to the device when it is bound, not when the graph runs (ONNX Runtime issues 5857 and
11666). So inputs live in device tensors that are bound once, and are written there before each run. Only
`total_sequence_length` stays on the host: the CUDA kernel of `GroupQueryAttention` reads it there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from services.inference.runtime.cuda_copy import CudaCopier
from services.inference.runtime.device import Array, Blocks, Inputs, Kv
from services.inference.runtime.device_kv import Copier, DeviceBlocks, DeviceKv
from services.inference.runtime.session import open_cuda_session
from shared.contracts.manifest import DecoderSpec
from shared.errors import InvalidInput


class CudaDevice:
    """Implements `Device`. The process sees one GPU: the node agent hides the others (`CUDA_VISIBLE_DEVICES`).

    Args:
        gpu_memory: Bytes of the GPU's memory that were granted.
    """

    graph_file = "model.cuda.onnx"
    memory = "cuda"

    def __init__(self, gpu_memory: int) -> None:
        self._gpu_memory = gpu_memory

    def session(self, model: Path, *, threads: int, kv_elements: int) -> ort.InferenceSession:
        """See `Device.session`. The provider's arena gets what keys and values leave of the grant."""
        kv_bytes = kv_elements * np.dtype(np.float16).itemsize
        arena = self._gpu_memory - kv_bytes
        if arena <= 0:
            raise InvalidInput(
                f"keys and values take {kv_bytes >> 20} MiB, and {self._gpu_memory >> 20} MiB of the GPU's memory "
                "were granted; choose fewer slots or a smaller max_len",
                param="slots",
            )
        return open_cuda_session(model, threads=threads, arena_bytes=arena)

    def kv(self, spec: DecoderSpec, *, slots: int, max_len: int) -> Kv:
        """See `Device.kv`."""
        return DeviceKv(spec, slots=slots, max_len=max_len, memory=self.memory, copier=self.copier())

    def blocks(self, kv: Kv, *, count: int, tokens: int) -> Blocks:
        """See `Device.blocks`: in host memory, so that the GPU's is for slots."""
        assert isinstance(kv, DeviceKv)
        return DeviceBlocks(kv, count=count, tokens=tokens)

    def inputs(self, arrays: Sequence[Array]) -> Inputs:
        """See `Device.inputs`."""
        return DeviceInputs(arrays, memory=self.memory)

    def copier(self) -> Copier:
        """Copies in the device's memory."""
        return CudaCopier()


class DeviceInputs:
    """Device tensors that follow host arrays."""

    def __init__(self, arrays: Sequence[Array], *, memory: str) -> None:
        self._arrays = arrays
        # On the CPU the value would be the array itself; a copy keeps the two apart there as well.
        self._values = [ort.OrtValue.ortvalue_from_numpy(array.copy(), memory, 0) for array in arrays]

    def address(self, array: Array) -> int:
        """See `Inputs.address`."""
        for whole, value in zip(self._arrays, self._values, strict=True):
            offset = array.ctypes.data - whole.ctypes.data
            if offset >= 0 and offset + array.nbytes <= whole.nbytes:
                address: int = value.data_ptr() + offset
                return address
        raise ValueError("the array is none of the inputs")

    def send(self) -> None:
        """Copy all arrays to the device."""
        for array, value in zip(self._arrays, self._values, strict=True):
            value.update_inplace(array)
