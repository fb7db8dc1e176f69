"""A decoder graph (`DecoderSpec`) on ONNX Runtime, with its keys and values bound in place."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.inference.runtime.device import Array, Blocks, Device
from services.inference.runtime.host import HostDevice
from services.inference.runtime.kv import HostKv
from services.inference.runtime.uniform import is_uniform, probe_tokens
from shared.contracts.manifest import DecoderSpec
from shared.errors import InvalidInput

Logits = NDArray[np.float32]
GRAPH_FILE = HostDevice.graph_file
_SCRATCH = 0
"""Where the scratch slot lies in the buffers; slot i follows at 1 + i."""


class OnnxDecoder:
    """Implements the engine's `Decoder`.

    Everything is bound by address: a decode binding is built once per batch size and a prefill binding once per slot;
    a step writes its numbers into the bound arrays and runs.

    A row's logits must not depend on the batch, to the last bit: activations quantised to int8 turn a difference of
    1e-6 into one of 0.5 in the logits. LLMOS's own operators see to that, and more (`uniform`). ONNX Runtime's matrix
    kernels keep rows apart for 2 rows and more, but some (4-bit `MatMulNBits` on x86, block 32 and up) take another
    path for 1 row. Where that is so, a lone sequence is run as the second of two rows, the first being that of a
    scratch slot which lies before slot 0. All this is found at the start by trying.

    Args:
        folder: Holds `model.onnx` and its external weights.
        spec: The graph's shapes.
        slots: Sequences it can hold.
        max_len: Tokens per slot.
        threads: Threads to compute with.
        device: What it computes on; the CPU by default.

    Raises:
        NotFound, CorruptFile: The graph can't be loaded.
        InvalidInput: max_len exceeds what the model was trained for, or an argument is out of range.
    """

    def __init__(
        self,
        folder: Path,
        spec: DecoderSpec,
        *,
        slots: int,
        max_len: int,
        threads: int,
        device: Device | None = None,
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
        self._device = device = device or HostDevice()
        elements = 2 * spec.layers * (slots + 1) * spec.kv_heads * max_len * spec.head_dim
        self._session: ort.InferenceSession | None = device.session(
            folder / device.graph_file, threads=threads, kv_bytes=elements * np.dtype(device.element).itemsize
        )
        self._kv = device.kv(spec, slots=slots + 1, max_len=max_len)
        self._kv_tensors = self._kv.tensors()
        self._blocks: Blocks | None = None
        self._ids: NDArray[np.int64] = np.zeros(max(slots, max_len), dtype=np.int64)
        self._seqlens: NDArray[np.int32] = np.zeros(slots + 1, dtype=np.int32)
        self._total: NDArray[np.int32] = np.zeros((), dtype=np.int32)
        self._wanted: NDArray[np.int64] = np.arange(slots + 1, dtype=np.int64)
        self._last: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        self._logits: Logits = np.zeros((slots + 1, spec.vocab_size), dtype=np.float32)
        self._inputs = device.inputs((self._ids, self._seqlens, self._wanted, self._last))
        self._decode_bindings: dict[int, ort.IOBinding] = {}
        self._alone_bindings: dict[int, ort.IOBinding] = {}
        self._prefill_bindings: dict[int, ort.IOBinding] = {}
        self._rows_alone = 1
        self._uniform = self._find_uniform()
        if not self._uniform:
            self._rows_alone = self._find_rows_alone()

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

    @property
    def uniform(self) -> bool:
        """See `Decoder.uniform`."""
        return self._uniform

    @property
    def rows_alone(self) -> int:
        """Rows that a step computes for one sequence alone: 1, or 2 if the kernels treat a single row differently."""
        return self._rows_alone

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """See `Decoder.decode`."""
        if len(tokens) == 1:
            return self._decode_alone(tokens[0], positions[0], self._rows_alone)
        batch = len(tokens)
        binding = self._decode_bindings.get(batch)
        if binding is None:
            binding = self._bind(first_slot=0, batch=batch)
            self._bind_rows(binding, rows=batch, wanted=self._wanted[:batch])
            self._decode_bindings[batch] = binding
        self._ids[:batch] = tokens
        self._seqlens[:batch] = positions
        self._total[...] = max(positions) + 1
        self._run(binding)
        return self._logits[:batch]

    def _decode_alone(self, token: int, position: int, rows: int) -> Logits:
        """One token in slot 0, as the last of 1 or 2 rows: float32 [1, vocab_size]."""
        scratch = rows - 1
        binding = self._alone_bindings.get(rows)
        if binding is None:
            binding = self._bind(first_slot=-scratch, batch=rows)
            self._bind_rows(binding, rows=rows, wanted=self._wanted[:rows])
            self._alone_bindings[rows] = binding
        self._ids[0] = self._seqlens[0] = 0
        self._ids[scratch] = token
        self._seqlens[scratch] = position
        self._total[...] = position + 1
        self._run(binding)
        return self._logits[scratch:rows]

    def _find_uniform(self) -> bool:
        """Not tried in float16, which rounds most differences away: a few tokens would not show them."""
        kv = self._kv
        uniform = isinstance(kv, HostKv) and is_uniform(
            self, lambda slot, start, count: kv.view(_SCRATCH + 1 + slot, start, count)
        )
        self._blocks = None
        return uniform

    def _find_rows_alone(self) -> int:
        """1 if one row gives every bit that it has in a batch, for a few tokens of the vocabulary; else 2."""
        one, two = (
            [self._decode_alone(t, i, rows).copy() for i, t in enumerate(probe_tokens(self))] for rows in (1, 2)
        )
        self._kv.release(_SCRATCH)
        self.release(0)
        return 1 if np.array_equal(one, two) else 2

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, *, last: bool, every: bool = False
    ) -> Logits | None:
        """See `Decoder.prefill`. The graph gives the last token's logits in any case: one row is cheap."""
        count = len(tokens)
        if every:
            return self._prefill_every(slot, tokens, start)
        binding = self._prefill_bindings.get(slot)
        if binding is None:
            binding = self._bind(first_slot=slot, batch=1)
            self._bind_input(binding, "output_index", self._last, (1,))
            self._bind_logits(binding, 1)
            self._prefill_bindings[slot] = binding
        self._bind_input(binding, "input_ids", self._ids, (1, count))
        self._ids[:count] = tokens
        self._seqlens[0] = start + count - 1
        self._total[...] = start + count
        self._last[0] = count - 1
        self._run(binding)
        return self._logits[:1] if last else None

    def _prefill_every(self, slot: int, tokens: Sequence[int], start: int) -> Logits:
        """The logits after each of the tokens: rare, so nothing of it is kept."""
        count = len(tokens)
        wanted, logits = np.arange(count, dtype=np.int64), np.empty((count, self.vocab_size), dtype=np.float32)
        binding = self._bind(first_slot=slot, batch=1)
        self._bind_input(binding, "input_ids", self._ids, (1, count))
        binding.bind_cpu_input("output_index", wanted)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._ids[:count] = tokens
        self._seqlens[0] = start + count - 1
        self._total[...] = start + count
        self._run(binding)
        return logits

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder.move`."""
        self._kv.move(_SCRATCH + 1 + source, _SCRATCH + 1 + destination, length)

    def release(self, slot: int) -> None:
        """See `Decoder.release`."""
        self._kv.release(_SCRATCH + 1 + slot)

    def reserve_blocks(self, count: int, tokens: int) -> None:
        """See `Decoder.reserve_blocks`."""
        self._blocks = self._device.blocks(self._kv, count=count, tokens=tokens)

    def store(self, slot: int, start: int, block: int) -> None:
        """See `Decoder.store`."""
        self._open_blocks().store(_SCRATCH + 1 + slot, start, block)

    def fetch(self, block: int, slot: int, start: int) -> None:
        """See `Decoder.fetch`."""
        self._open_blocks().fetch(block, _SCRATCH + 1 + slot, start)

    def close(self) -> None:
        """Give the session and all memory back; may be called twice."""
        self._decode_bindings.clear()
        self._alone_bindings.clear()
        self._prefill_bindings.clear()
        self._session = None
        self._kv.close()
        if self._blocks is not None:
            self._blocks.clear()

    def _bind(self, *, first_slot: int, batch: int) -> ort.IOBinding:
        """A binding whose past and present are the same memory: the slots from `first_slot` on (-1: scratch)."""
        binding = self._open_session().io_binding()
        shape = (batch, *self._kv.slot_shape)
        memory, element = self._device.memory, self._device.element
        for tensor in self._kv_tensors:
            address = tensor.address + (_SCRATCH + 1 + first_slot) * tensor.slot_bytes
            binding.bind_input(f"past_{tensor.name}", memory, 0, element, shape, address)
            binding.bind_output(f"present_{tensor.name}", memory, 0, element, shape, address)
        self._bind_input(binding, "seqlens_k", self._seqlens, (batch,))
        # On every device the kernel reads this one on the host.
        binding.bind_input("total_sequence_length", "cpu", 0, np.int32, (), self._total.ctypes.data)
        return binding

    def _bind_rows(self, binding: ort.IOBinding, *, rows: int, wanted: NDArray[np.int64]) -> None:
        self._bind_input(binding, "input_ids", self._ids, (rows, 1))
        self._bind_input(binding, "output_index", wanted, wanted.shape)
        self._bind_logits(binding, len(wanted))

    def _bind_logits(self, binding: ort.IOBinding, rows: int) -> None:
        binding.bind_output("logits", "cpu", 0, np.float32, (rows, self.vocab_size), self._logits.ctypes.data)

    def _bind_input(self, binding: ort.IOBinding, name: str, array: Array, shape: tuple[int, ...]) -> None:
        address = self._inputs.address(array)
        binding.bind_input(name, self._device.memory, 0, array.dtype.type, shape, address)

    def _run(self, binding: ort.IOBinding) -> None:
        self._inputs.send()
        self._open_session().run_with_iobinding(binding)

    def _open_blocks(self) -> Blocks:
        if self._blocks is None:
            raise RuntimeError("no blocks were reserved")
        return self._blocks

    def _open_session(self) -> ort.InferenceSession:
        if self._session is None:
            raise RuntimeError("the decoder is closed")
        return self._session
