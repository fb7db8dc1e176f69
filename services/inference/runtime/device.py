"""The memory that a decoder computes in: implemented by `host.HostDevice` and `cuda.CudaDevice`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shared.contracts.manifest import DecoderSpec

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class KvTensor:
    """One bound tensor: the keys or the values of one layer."""

    name: str
    """`key.{layer}` or `value.{layer}`."""
    address: int
    """Of slot 0, in the device's memory."""
    slot_bytes: int


class Kv(Protocol):
    """Keys and values of all slots."""

    @property
    def element(self) -> type[np.floating[Any]]:
        """The type of keys and values."""
        ...

    @property
    def slot_shape(self) -> tuple[int, ...]:
        """[kv_heads, max_len, head_dim]."""
        ...

    def tensors(self) -> list[KvTensor]:
        """All tensors of the graph's past and present."""
        ...

    def move(self, source: int, destination: int, length: int) -> None:
        """Copy the first `length` tokens of a slot to another."""
        ...

    def release(self, slot: int) -> None:
        """The content of a slot is needed no more."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Blocks(Protocol):
    """Places beside the slots for the keys and values of a fixed number of tokens each."""

    def store(self, slot: int, start: int, block: int) -> None:
        """Copy the tokens of a slot from `start` on into a block, as far as the slot goes."""
        ...

    def fetch(self, block: int, slot: int, start: int) -> None:
        """Copy a block into a slot, to the tokens from `start` on, as far as the slot goes."""
        ...

    def clear(self) -> None:
        """Give all memory back."""
        ...


class Inputs(Protocol):
    """The small input arrays of a step: written on the host, read by the graph."""

    def address(self, array: Array) -> int:
        """Where the graph reads what is written into `array`, one of the arrays or a part of one."""
        ...

    def send(self) -> None:
        """Make what was written visible to the graph."""
        ...


class Device(Protocol):
    """A kind of memory with the processor that computes in it."""

    @property
    def graph_file(self) -> str:
        """The graph of a version that is made for it."""
        ...

    @property
    def memory(self) -> str:
        """ONNX Runtime's name of its memory, for bindings."""
        ...

    def session(self, model: Path, *, threads: int, kv_elements: int) -> ort.InferenceSession:
        """The graph `model`, loaded; so many numbers of the device's memory will go to keys and values."""
        ...

    def kv(self, spec: DecoderSpec, *, slots: int, max_len: int) -> Kv:
        """Keys and values for `slots` sequences of `max_len` tokens."""
        ...

    def blocks(self, kv: Kv, *, count: int, tokens: int) -> Blocks:
        """`count` blocks of `tokens` tokens beside the slots of `kv`."""
        ...

    def inputs(self, arrays: Sequence[Array]) -> Inputs:
        """`arrays` as inputs of a graph; their owner keeps them and writes into them."""
        ...
