"""The bound: the same graph in the shortest loop around ONNX Runtime that still generates tokens."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from operators import takes_slots
from services.inference.runtime.session import open_session
from shared.contracts.manifest import DecoderSpec


class BareLoop:
    """Batch decode and one-shot prefill with everything bound once; no queue, no slots, no sampling but argmax."""

    def __init__(self, model: Path, spec: DecoderSpec, *, batch: int, max_len: int, threads: int) -> None:
        self._session = open_session(model, threads=threads)
        self._spec = spec
        self._batch = batch
        self._kv = np.zeros((2 * spec.layers, batch, spec.kv_heads, max_len, spec.head_dim), dtype=self._kv_type())
        self._ids = np.ones((batch, 1), dtype=np.int64)
        self._rows = np.arange(batch, dtype=np.int64)
        self._slots = np.arange(batch, dtype=np.int32)
        self._seqlens = np.zeros(batch, dtype=np.int32)
        self._total = np.zeros((), dtype=np.int32)
        self._logits = np.zeros((batch, spec.vocab_size), dtype=np.float32)
        self._decode = self._bind(batch)
        _bind(self._decode, "input_ids", self._ids)
        _bind(self._decode, "output_index", self._rows)
        self._decode.bind_output("logits", "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)
        self._prefill = self._bind(1)
        self._prefill.bind_output("logits", "cpu", 0, np.float32, (1, spec.vocab_size), self._logits.ctypes.data)

    def decode(self, position: int) -> None:
        """One greedy token for every row, all at `position`."""
        self._seqlens[:] = position
        self._total[...] = position + 1
        self._session.run_with_iobinding(self._decode)
        self._ids[:, 0] = self._logits.argmax(axis=1)

    def prefill(self, prompt: np.ndarray) -> int:
        """The first token after a prompt that is computed in one run."""
        ids, last = prompt.reshape(1, -1).astype(np.int64), np.array([len(prompt) - 1], dtype=np.int64)
        self._seqlens[0], self._total[...] = len(prompt) - 1, len(prompt)
        _bind(self._prefill, "input_ids", ids)
        _bind(self._prefill, "output_index", last)
        self._session.run_with_iobinding(self._prefill)
        return int(self._logits[0].argmax())

    def _kv_type(self) -> str:
        """Of the graph, which is not always that of the version: `float16` or `float32`."""
        return "float16" if "float16" in self._session.get_inputs()[-1].type else "float32"

    def _bind(self, batch: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        for index, tensor in enumerate(self._kv):
            name = f"{('key', 'value')[index % 2]}.{index // 2}"
            shape = (batch, *tensor.shape[1:])
            binding.bind_input(f"past_{name}", "cpu", 0, tensor.dtype.type, shape, tensor.ctypes.data)
            binding.bind_output(f"present_{name}", "cpu", 0, tensor.dtype.type, shape, tensor.ctypes.data)
        if takes_slots(self._session):
            binding.bind_input("slots", "cpu", 0, np.int32, (batch,), self._slots.ctypes.data)
        binding.bind_input("seqlens_k", "cpu", 0, np.int32, (batch,), self._seqlens.ctypes.data)
        binding.bind_input("total_sequence_length", "cpu", 0, np.int32, (), self._total.ctypes.data)
        return binding


def _bind(binding: ort.IOBinding, name: str, array: np.ndarray) -> None:
    """Bind by address: the caller keeps `array` alive as long as the binding is run."""
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
