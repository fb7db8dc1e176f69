"""Keys and values of all slots in host memory, paged lazily."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.inference.runtime.device import KvTensor
from shared.contracts.manifest import DecoderSpec

_MAP_NORESERVE = 0x4000
"""Linux: no swap is reserved for untouched pages (`mmap` names it from Python 3.13)."""


class HostKv:
    """Arrays [layers x {key, value}, slots, kv_heads, max_len, head_dim] of `spec.kv_type` in one anonymous mapping.

    An untouched page costs nothing, and `release` gives a slot's pages back: virtual memory does the paging.
    """

    def __init__(self, spec: DecoderSpec, *, slots: int, max_len: int) -> None:
        shape = (2 * spec.layers, slots, spec.kv_heads, max_len, spec.head_dim)
        self.element = np.dtype(spec.kv_type).type
        size = int(np.prod(shape)) * np.dtype(self.element).itemsize
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        # A huge page would make one token cost as much memory as thousands.
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self._array: NDArray[Any] = np.frombuffer(self._map, dtype=self.element).reshape(shape)
        self.slot_shape: tuple[int, ...] = shape[2:]
        """[kv_heads, max_len, head_dim]."""

    def tensors(self) -> list[KvTensor]:
        """All tensors of the graph's past and present."""
        address = self._array.ctypes.data
        stride, slot_bytes = self._array.strides[:2]
        names = [f"{kind}.{layer}" for layer in range(len(self._array) // 2) for kind in ("key", "value")]
        return [KvTensor(name, address + index * stride, slot_bytes) for index, name in enumerate(names)]

    def move(self, source: int, destination: int, length: int) -> None:
        """Copy the first `length` tokens of a slot to another."""
        self._array[:, destination, :, :length] = self._array[:, source, :, :length]

    def release(self, slot: int) -> None:
        """Give the memory of a slot back to the system. It reads as zeros afterwards.

        Pages that a slot shares with a neighbour (its size need not be a multiple of the page size) are kept.
        """
        stride, slot_bytes = self._array.strides[:2]
        for tensor in range(len(self._array)):
            start = tensor * stride + slot * slot_bytes
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (start + slot_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if end > first:
                self._map.madvise(mmap.MADV_DONTNEED, first, end - first)

    def view(self, slot: int, start: int, count: int) -> NDArray[Any]:
        """[layers x {key, value}, kv_heads, count, head_dim]: a slot's tokens from `start` on, in place."""
        return self._array[:, slot, :, start : start + count]

    def read(self, slot: int, length: int) -> NDArray[Any]:
        """A copy [layers x {key, value}, kv_heads, length, head_dim] of a slot's first tokens."""
        return self._array[:, slot, :, :length].copy()

    def close(self) -> None:
        """Give all memory back; everything reads as zeros afterwards."""
        self._map.madvise(mmap.MADV_DONTNEED)
