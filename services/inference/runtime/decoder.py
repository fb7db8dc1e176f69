"""A decoder graph (`DecoderSpec`) on ONNX Runtime, with its keys and values bound in place."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.inference.runtime.kv import HostKv
from services.inference.runtime.session import open_session
from shared.contracts.manifest import DecoderSpec
from shared.errors import InvalidInput

Logits = NDArray[np.float32]
GRAPH_FILE = "model.onnx"


class OnnxDecoder:
    """Implements the engine's `Decoder`.

    Everything is bound by address: a decode binding is built once per batch size and a prefill binding once per slot;
    a step writes its numbers into the bound arrays and runs.

    Args:
        folder: Holds `model.onnx` and its external weights.
        spec: The graph's shapes.
        slots: Sequences it can hold.
        max_len: Tokens per slot.
        threads: Threads to compute with.
        provider: `cpu`.

    Raises:
        NotFound, CorruptFile: The graph can't be loaded.
        InvalidInput: max_len exceeds what the model was trained for, or an argument is out of range.
    """

    def __init__(
        self, folder: Path, spec: DecoderSpec, *, slots: int, max_len: int, threads: int, provider: str = "cpu"
    ) -> None:
        if not 1 <= max_len <= spec.context_length:
            raise InvalidInput(
                f"max_len is {max_len}; this model takes 1 to {spec.context_length} tokens", param="max_len"
            )
        if slots < 1:
            raise InvalidInput(f"slots is {slots}; a replica needs at least 1", param="slots")
        self._spec = spec
        self._slots = slots
        self._max_len = max_len
        self._session: ort.InferenceSession | None = open_session(
            folder / GRAPH_FILE, threads=threads, provider=provider
        )
        self._kv = HostKv(spec, slots=slots, max_len=max_len)
        self._kv_tensors = self._kv.tensors()
        self._ids: NDArray[np.int64] = np.zeros(max(slots, max_len), dtype=np.int64)
        self._seqlens: NDArray[np.int32] = np.zeros(slots, dtype=np.int32)
        self._total: NDArray[np.int32] = np.zeros((), dtype=np.int32)
        self._wanted: NDArray[np.int64] = np.arange(slots, dtype=np.int64)
        self._last: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        self._logits: Logits = np.zeros((slots, spec.vocab_size), dtype=np.float32)
        self._decode_bindings: dict[int, ort.IOBinding] = {}
        self._prefill_bindings: dict[int, ort.IOBinding] = {}

    @property
    def slots(self) -> int:
        """How many sequences it can hold."""
        return self._slots

    @property
    def max_len(self) -> int:
        """Tokens per slot."""
        return self._max_len

    @property
    def vocab_size(self) -> int:
        """Token ids are 0..vocab_size-1."""
        return self._spec.vocab_size

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """See `Decoder.decode`."""
        batch = len(tokens)
        binding = self._decode_bindings.get(batch)
        if binding is None:
            binding = self._bind(first_slot=0, batch=batch)
            _bind_input(binding, "input_ids", self._ids, (batch, 1))
            _bind_input(binding, "output_index", self._wanted, (batch,))
            binding.bind_output("logits", "cpu", 0, np.float32, (batch, self.vocab_size), self._logits.ctypes.data)
            self._decode_bindings[batch] = binding
        self._ids[:batch] = tokens
        self._seqlens[:batch] = positions
        self._total[...] = max(positions) + 1
        self._run(binding)
        return self._logits[:batch]

    def prefill(self, slot: int, tokens: Sequence[int], start: int, *, last: bool) -> Logits | None:
        """See `Decoder.prefill`. The graph gives the last token's logits in any case: one row is cheap."""
        count = len(tokens)
        binding = self._prefill_bindings.get(slot)
        if binding is None:
            binding = self._bind(first_slot=slot, batch=1)
            _bind_input(binding, "output_index", self._last, (1,))
            binding.bind_output("logits", "cpu", 0, np.float32, (1, self.vocab_size), self._logits.ctypes.data)
            self._prefill_bindings[slot] = binding
        _bind_input(binding, "input_ids", self._ids, (1, count))
        self._ids[:count] = tokens
        self._seqlens[0] = start + count - 1
        self._total[...] = start + count
        self._last[0] = count - 1
        self._run(binding)
        return self._logits[:1] if last else None

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder.move`."""
        self._kv.move(source, destination, length)

    def release(self, slot: int) -> None:
        """See `Decoder.release`."""
        self._kv.release(slot)

    def close(self) -> None:
        """Give the session and all memory back; may be called twice."""
        self._decode_bindings.clear()
        self._prefill_bindings.clear()
        self._session = None
        for slot in range(self._slots):
            self._kv.release(slot)

    def _bind(self, *, first_slot: int, batch: int) -> ort.IOBinding:
        """A binding whose past and present are the same memory: the slots from `first_slot` on."""
        binding = self._open_session().io_binding()
        shape = (batch, *self._kv.slot_shape)
        for tensor in self._kv_tensors:
            address = tensor.address + first_slot * tensor.slot_bytes
            binding.bind_input(f"past_{tensor.name}", "cpu", 0, np.float32, shape, address)
            binding.bind_output(f"present_{tensor.name}", "cpu", 0, np.float32, shape, address)
        _bind_input(binding, "seqlens_k", self._seqlens, (batch,))
        _bind_input(binding, "total_sequence_length", self._total, ())
        return binding

    def _run(self, binding: ort.IOBinding) -> None:
        self._open_session().run_with_iobinding(binding)

    def _open_session(self) -> ort.InferenceSession:
        if self._session is None:
            raise RuntimeError("the decoder is closed")
        return self._session


def _bind_input(binding: ort.IOBinding, name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
