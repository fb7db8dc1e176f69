"""The CPU: the graph reads and writes this process's memory, so nothing is copied."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from services.inference.runtime.device import Array, Blocks, Inputs, Kv
from services.inference.runtime.kv import HostKv
from services.inference.runtime.kv_blocks import HostBlocks
from services.inference.runtime.session import open_session
from shared.contracts.manifest import DecoderSpec


class HostDevice:
    """Implements `Device`.

    Args:
        spin: Whether the threads are its own, and may wait for one another actively.
    """

    graph_file = "model.onnx"
    memory = "cpu"

    def __init__(self, *, spin: bool = False) -> None:
        self._spin = spin

    def session(self, model: Path, *, threads: int, kv_elements: int) -> ort.InferenceSession:
        """See `Device.session`."""
        del kv_elements
        return open_session(model, threads=threads, spin=self._spin)

    def kv(self, spec: DecoderSpec, *, slots: int, max_len: int) -> Kv:
        """See `Device.kv`."""
        return HostKv(spec, slots=slots, max_len=max_len)

    def blocks(self, kv: Kv, *, count: int, tokens: int) -> Blocks:
        """See `Device.blocks`."""
        assert isinstance(kv, HostKv)
        return HostBlocks(kv, count=count, tokens=tokens)

    def inputs(self, arrays: Sequence[Array]) -> Inputs:
        """See `Device.inputs`."""
        del arrays
        return HostInputs()


class HostInputs:
    """The graph reads the arrays themselves."""

    def address(self, array: Array) -> int:
        """See `Inputs.address`."""
        address: int = array.ctypes.data
        return address

    def send(self) -> None:
        """Nothing to do."""
