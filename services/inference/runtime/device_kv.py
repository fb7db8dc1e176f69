"""Keys and values of all slots in a device's memory, and blocks of them in the host's."""

import mmap
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.inference.runtime.device import KvTensor
from shared.contracts.manifest import DecoderSpec


class Copier(Protocol):
    """Copies bytes wherever they are."""

    def rows(self, to: int, to_pitch: int, source: int, source_pitch: int, *, width: int, count: int) -> None:
        """Copy `count` rows of `width` bytes; row i lies at address + i * pitch."""
        ...

    def wait(self) -> None:
        """Return when all copies are made; the graph runs on another stream."""
        ...


class DeviceKv:
    """Float16 [slots, kv_heads, max_len, head_dim] for each of keys and values of each layer.

    A GPU has no lazy pages: all of it is taken at the start, and `release` gives nothing back.
    """

    def __init__(self, spec: DecoderSpec, *, slots: int, max_len: int, memory: str, copier: Copier) -> None:
        self.element = np.float16
        self.slot_shape: tuple[int, ...] = (spec.kv_heads, max_len, spec.head_dim)
        self.copier = copier
        # From zeros: what is left over in memory may be no numbers, and a masked NaN is still a NaN.
        zeros = np.zeros((slots, *self.slot_shape), dtype=np.float16)
        self._values = [ort.OrtValue.ortvalue_from_numpy(zeros.copy(), memory, 0) for _ in range(2 * spec.layers)]
        self._tensors = [
            KvTensor(f"{kind}.{layer}", self._values[2 * layer + index].data_ptr(), zeros[0].nbytes)
            for layer in range(spec.layers)
            for index, kind in enumerate(("key", "value"))
        ]
        self.token_bytes = spec.head_dim * zeros.itemsize
        """Of one token in one head of one tensor."""
        self.head_bytes = max_len * self.token_bytes

    def tensors(self) -> list[KvTensor]:
        """See `Kv.tensors`."""
        return self._tensors

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Kv.move`."""
        for tensor in self._tensors:
            self.copier.rows(
                tensor.address + destination * tensor.slot_bytes,
                self.head_bytes,
                tensor.address + source * tensor.slot_bytes,
                self.head_bytes,
                width=length * self.token_bytes,
                count=self.slot_shape[0],
            )
        self.copier.wait()

    def release(self, slot: int) -> None:
        """Nothing to do: the memory stays the slot's."""

    def close(self) -> None:
        """See `Kv.close`."""
        self._tensors.clear()
        self._values.clear()


class DeviceBlocks:
    """Implements `Blocks`: float16 [count, layers x {key, value}, kv_heads, tokens, head_dim] in host memory."""

    def __init__(self, kv: DeviceKv, *, count: int, tokens: int) -> None:
        self._kv = kv
        heads, _, width = kv.slot_shape
        shape = (count, len(kv.tensors()), heads, tokens, width)
        self._map = mmap.mmap(-1, max(1, int(np.prod(shape)) * 2))
        self._array: NDArray[np.float16] = np.frombuffer(
            self._map, dtype=np.float16, count=int(np.prod(shape))
        ).reshape(shape)

    def store(self, slot: int, start: int, block: int) -> None:
        """See `Blocks.store`."""
        for index, (tensor, width) in enumerate(self._pieces(start)):
            there = tensor.address + slot * tensor.slot_bytes + start * self._kv.token_bytes
            self._copy(self._address(block, index), self._pitch, there, self._kv.head_bytes, width)
        self._kv.copier.wait()

    def fetch(self, block: int, slot: int, start: int) -> None:
        """See `Blocks.fetch`."""
        for index, (tensor, width) in enumerate(self._pieces(start)):
            there = tensor.address + slot * tensor.slot_bytes + start * self._kv.token_bytes
            self._copy(there, self._kv.head_bytes, self._address(block, index), self._pitch, width)
        self._kv.copier.wait()

    def clear(self) -> None:
        """See `Blocks.clear`."""
        self._map.madvise(mmap.MADV_DONTNEED)

    @property
    def _pitch(self) -> int:
        return self._array.strides[2]

    def _address(self, block: int, tensor: int) -> int:
        address: int = self._array[block, tensor].ctypes.data
        return address

    def _pieces(self, start: int) -> list[tuple[KvTensor, int]]:
        """Each tensor with the bytes of a head that a block holds from `start` on."""
        tokens = min(self._array.shape[3], self._kv.slot_shape[1] - start)
        return [(tensor, tokens * self._kv.token_bytes) for tensor in self._kv.tensors()]

    def _copy(self, to: int, to_pitch: int, source: int, source_pitch: int, width: int) -> None:
        self._kv.copier.rows(to, to_pitch, source, source_pitch, width=width, count=self._kv.slot_shape[0])
