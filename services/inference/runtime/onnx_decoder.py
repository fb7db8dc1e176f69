"""A decoder graph (`DecoderSpec`) on ONNX Runtime, with its keys and values bound in place."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.inference.engine.decoder import Logits, Span
from services.inference.runtime.batch_invariance import is_batch_invariant, probe_tokens
from services.inference.runtime.device import Blocks, Device
from services.inference.runtime.host import HostDevice
from services.inference.runtime.kv import HostKv
from services.inference.runtime.step_graph import SCRATCH, StepGraph
from shared.contracts.manifest import DecoderSpec
from shared.errors import InvalidInput

GRAPH_FILE = HostDevice.graph_file


class OnnxDecoder:
    """Implements the engine's `Decoder`.

    A row's logits must not depend on the batch, to the last bit: activations quantised to int8 turn a difference of
    1e-6 into one of 0.5 in the logits. LLMOS's own operators see to that, and more (`batch_invariant`). ONNX
    Runtime's matrix kernels keep rows apart for 2 rows and more, but some (4-bit `MatMulNBits` on x86, block 32 and
    up) take another path for 1 row. Where that is so, a lone sequence is run as the second of two rows, the first
    being that of a scratch slot which lies before slot 0. All this is found at the start by trying.

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
        session = device.session(folder / device.graph_file, threads=threads, kv_elements=elements)
        self._kv = device.kv(spec, slots=slots + 1, max_len=max_len)
        self._blocks: Blocks | None = None
        self._graph: StepGraph | None = StepGraph(
            session, device, self._kv, slots=slots, max_len=max_len, vocab_size=spec.vocab_size
        )
        self._rows_alone = 1
        self._batch_invariant = self._find_batch_invariance()
        if not self._batch_invariant:
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
    def batch_invariant(self) -> bool:
        """See `Decoder.batch_invariant`."""
        return self._batch_invariant

    @property
    def rows_alone(self) -> int:
        """Rows that a step computes for one sequence alone: 1, or 2 if the kernels treat a single row differently."""
        return self._rows_alone

    def compute(self, spans: Sequence[Span]) -> Logits:
        """See `Decoder.compute`."""
        return self._open_graph().spans(spans)

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """See `Decoder.decode`."""
        if len(tokens) == 1:
            return self._decode_alone(tokens[0], positions[0], self._rows_alone)
        return self._open_graph().rows(0, tokens, positions)

    def _decode_alone(self, token: int, position: int, rows: int) -> Logits:
        """One token in slot 0, as the last of 1 or 2 rows: float32 [1, vocab_size]."""
        scratch = rows - 1
        return self._open_graph().rows(-scratch, [0] * scratch + [token], [0] * scratch + [position])[scratch:]

    def _find_batch_invariance(self) -> bool:
        """Not tried in float16, which rounds most differences away: a few tokens would not show them."""
        kv = self._kv
        batch_invariant = (
            self._open_graph().packed
            and isinstance(kv, HostKv)
            and is_batch_invariant(self, lambda slot, start, count: kv.view(SCRATCH + 1 + slot, start, count))
        )
        self._blocks = None
        return batch_invariant

    def _find_rows_alone(self) -> int:
        """1 if one row gives every bit that it has in a batch, for a few tokens of the vocabulary; else 2."""
        one, two = (
            [self._decode_alone(t, i, rows).copy() for i, t in enumerate(probe_tokens(self))] for rows in (1, 2)
        )
        self._kv.release(SCRATCH)
        self.release(0)
        return 1 if np.array_equal(one, two) else 2

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder.move`."""
        self._kv.move(SCRATCH + 1 + source, SCRATCH + 1 + destination, length)

    def release(self, slot: int) -> None:
        """See `Decoder.release`."""
        self._kv.release(SCRATCH + 1 + slot)

    def reserve_blocks(self, count: int, tokens: int) -> None:
        """See `Decoder.reserve_blocks`."""
        self._blocks = self._device.blocks(self._kv, count=count, tokens=tokens)

    def store(self, slot: int, start: int, block: int) -> None:
        """See `Decoder.store`."""
        self._open_blocks().store(SCRATCH + 1 + slot, start, block)

    def fetch(self, block: int, slot: int, start: int) -> None:
        """See `Decoder.fetch`."""
        self._open_blocks().fetch(block, SCRATCH + 1 + slot, start)

    def close(self) -> None:
        """Give the session and all memory back; may be called twice."""
        self._graph = None
        self._kv.close()
        if self._blocks is not None:
            self._blocks.clear()

    def _open_blocks(self) -> Blocks:
        if self._blocks is None:
            raise RuntimeError("no blocks were reserved")
        return self._blocks

    def _open_graph(self) -> StepGraph:
        if self._graph is None:
            raise RuntimeError("the decoder is closed")
        return self._graph
