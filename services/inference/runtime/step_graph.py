"""A decoder graph (`DecoderSpec`), bound to its keys and values and run for one step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

import operators
from services.inference.engine.decoder import Logits, Span
from services.inference.runtime.device import Array, Device, Kv
from shared.contracts.serving import MAX_DRAFT_TOKENS

SCRATCH = 0
"""Where the scratch slot lies in the buffers; slot i follows at 1 + i."""

_BOUND_ROWS = 16
"""Steps of up to this many single tokens have a binding for each number of tokens. With drafts, that number changes
from step to step; and the fewer tokens a step has, the larger the part of it that a new binding takes."""

Shape = tuple[int, ...]


@dataclass(slots=True)
class Binding:
    """A session's inputs and outputs by address."""

    inner: ort.IOBinding
    shaped: tuple[object, ...] | None = None
    """The shape of the step for which inputs and outputs are bound, and where they lie. Most steps are shaped like
    the one before and need no new binding: one takes ONNX Runtime 15 us for each, twice that with cold caches."""


class StepGraph:
    """Runs of one session. Everything is bound by address: a step writes its numbers into arrays and runs.

    A graph that has the input `slots` is *packed*: each row of its batch is one token of any slot, so one run takes
    tokens of many sequences, as many of each as are there. Without it (ONNX Runtime's own attention) row i belongs to
    slot i of those that are bound, and a run is one token in each of them, or many in one.

    Args:
        session: The graph.
        device: What it computes on.
        kv: Keys and values of the slots, the scratch slot first.
        slots: Besides the scratch slot.
        max_len: Tokens of a slot.
        vocab_size: Width of the logits.
    """

    def __init__(
        self, session: ort.InferenceSession, device: Device, kv: Kv, *, slots: int, max_len: int, vocab_size: int
    ) -> None:
        self._session = session
        self._device = device
        self._slot_shape, self._tensors, self._element = kv.slot_shape, kv.tensors(), kv.element
        self._places = slots + 1
        self.packed = operators.takes_slots(session)
        """Whether one run takes tokens of any slots."""
        self._total: NDArray[np.int32] = np.zeros((), dtype=np.int32)
        # One for each place and token of the longest draft: memory that no step has written to costs nothing.
        self._logits: Logits = np.zeros((self._places + MAX_DRAFT_TOKENS, vocab_size), dtype=np.float32)
        self._bindings: dict[tuple[int, int, int], Binding] = {}
        self._make_arrays(max(self._places, max_len))

    def rows(self, first: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """One token in each of the slots from `first` (-1: scratch) on: float32 [B, vocab_size]."""
        rows = len(tokens)
        if self.packed:
            return self._run_packed(range(first, first + rows), tokens, positions, range(rows))
        return self._run(self._binding(first, rows), (rows, 1), tokens, positions, range(rows))

    def spans(self, spans: Sequence[Span]) -> Logits:
        """See `Decoder.compute`; a graph that is not packed takes one span."""
        if self.packed:
            slots: list[int] = []
            tokens: list[int] = []
            positions: list[int] = []
            outputs: list[int] = []
            for span in spans:
                count = len(span.tokens)
                slots += [span.slot] * count
                tokens += span.tokens
                positions += range(span.start, span.start + count)
                outputs += range(len(tokens) - span.logits, len(tokens))
            return self._run_packed(slots, tokens, positions, outputs)
        (span,) = spans
        count = len(span.tokens)
        # The last token's logits are computed in any case: one row is cheap, and no kernel is asked for no rows.
        last_rows = range(count - max(1, span.logits), count)
        last = span.start + count - 1
        return self._run(self._binding(span.slot, 1), (1, count), span.tokens, [last], last_rows)[: span.logits]

    def _run_packed(
        self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int], outputs: Sequence[int]
    ) -> Logits:
        count = len(tokens)
        if count > self._ids.size:
            self._make_arrays(count)
        self._slots[:count] = [SCRATCH + 1 + slot for slot in slots]
        rows = count if len(outputs) == count <= _BOUND_ROWS else 0
        return self._run(self._binding(-1, self._places, rows), (count, 1), tokens, positions, outputs)

    def _run(
        self,
        binding: Binding,
        shape: tuple[int, int],
        tokens: Sequence[int],
        lasts: Sequence[int],
        outputs: Sequence[int],
    ) -> Logits:
        """Run `shape` tokens; `lasts` has the position of each row's last one."""
        self._ids[: len(tokens)] = tokens
        self._seqlens[: len(lasts)] = lasts
        self._total[...] = max(lasts) + 1
        self._outputs[: len(outputs)] = outputs
        shaped: tuple[object, ...] | None = (shape, len(outputs), self._where)
        logits = self._logits[: len(outputs)]
        if len(outputs) > len(logits):  # the logits after every token of a prompt: rare, so its binding is not reused
            logits, shaped = np.empty((len(outputs), logits.shape[1]), dtype=np.float32), None
        if shaped is None or shaped != binding.shaped:
            self._bind_step(binding, shape, logits)
            binding.shaped = shaped
        self._inputs.send()
        self._session.run_with_iobinding(binding.inner)
        return logits

    def _bind_step(self, binding: Binding, shape: tuple[int, int], logits: Logits) -> None:
        """Bind what a step of this shape reads and writes."""
        rows = shape[:1]
        shapes: dict[str, Shape] = {"input_ids": shape, "seqlens_k": rows, "output_index": (len(logits),)}
        if self.packed:
            shapes["slots"] = rows
        for name, each in shapes.items():
            element, address = self._where[name]
            binding.inner.bind_input(name, self._device.memory, 0, element, each, address)
        binding.inner.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)

    def _binding(self, first: int, slots: int, rows: int = 0) -> Binding:
        """One whose past and present are the same memory: that of the slots from `first` (-1: scratch) on.

        It is the one for steps of `rows` tokens; 0: for all others.
        """
        binding = self._bindings.get((first, slots, rows))
        if binding is None:
            binding = self._bindings[first, slots, rows] = Binding(self._session.io_binding())
            shape = (slots, *self._slot_shape)
            memory, element = self._device.memory, self._element
            for tensor in self._tensors:
                address = tensor.address + (SCRATCH + 1 + first) * tensor.slot_bytes
                binding.inner.bind_input(f"past_{tensor.name}", memory, 0, element, shape, address)
                binding.inner.bind_output(f"present_{tensor.name}", memory, 0, element, shape, address)
            # On every device the kernel reads this one on the host.
            binding.inner.bind_input("total_sequence_length", "cpu", 0, np.int32, (), self._total.ctypes.data)
        return binding

    def _make_arrays(self, tokens: int) -> None:
        """Make the input arrays for a step of this many tokens. Most steps fit those made at the start."""
        self._ids: NDArray[np.int64] = np.zeros(tokens, dtype=np.int64)
        self._outputs: NDArray[np.int64] = np.zeros(tokens, dtype=np.int64)
        self._seqlens: NDArray[np.int32] = np.zeros(tokens, dtype=np.int32)
        self._slots: NDArray[np.int32] = np.zeros(tokens, dtype=np.int32)
        arrays: dict[str, Array] = {
            "input_ids": self._ids,
            "output_index": self._outputs,
            "seqlens_k": self._seqlens,
            "slots": self._slots,
        }
        self._inputs = self._device.inputs(tuple(arrays.values()))
        self._where = {name: (array.dtype.type, self._inputs.address(array)) for name, array in arrays.items()}
