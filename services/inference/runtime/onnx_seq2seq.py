"""An encoder and a decoder graph (`Seq2SeqSpec`) on ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.decoder import Logits, Source, Span
from services.inference.runtime.row_cache import RowCache, Tensor
from services.inference.runtime.session import open_session
from shared.contracts.manifest import Seq2SeqSpec
from shared.errors import CorruptFile, InvalidInput

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"


class OnnxSeq2Seq:
    """Implements the engine's `SourceDecoder`.

    A source is encoded once, when its sequence takes a slot: the keys and values that cross-attention reads lie in
    the slot from then on. Row i of a step is slot i, and each row has its own place: what is left of the longest past
    is masked in the shorter ones.

    Args:
        folder: Holds both graphs and their external weights.
        spec: Their shapes.
        slots: Sequences it can hold.
        max_len: Tokens per slot, and of a source that is text.
        threads: Threads to compute with.
        spin: Whether they wait for one another actively, for a moment.

    Raises:
        NotFound, CorruptFile: A graph can't be loaded, or is not what the spec says.
        InvalidInput: An argument is out of range.
    """

    def __init__(
        self, folder: Path, spec: Seq2SeqSpec, *, slots: int, max_len: int, threads: int, spin: bool = False
    ) -> None:
        if not len(spec.prefix) < max_len <= spec.context_length:
            raise InvalidInput(
                f"max_len is {max_len}; this model takes {len(spec.prefix) + 1} to {spec.context_length} tokens",
                param="max_len",
            )
        if slots < 1:
            raise InvalidInput(f"slots is {slots}; a replica needs at least 1", param="slots")
        self._spec = spec
        self._slots, self._max_len = slots, max_len
        self._encoder = open_session(folder / ENCODER_FILE, threads=threads, spin=spin)
        self._decoder = open_session(folder / DECODER_FILE, threads=threads, spin=spin)
        self._inputs = {put.name for put in self._decoder.get_inputs()}
        self._caches = _cache_names(spec)
        self._check()
        self._past = RowCache(spec, rows=slots, places=max_len)
        self._source_limit = spec.source_length if spec.speech else min(max_len, spec.source_length)
        self._cross = RowCache(spec, rows=slots, places=self._source_limit)
        self._lengths: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)
        """Places of each slot's source."""

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
        """ONNX Runtime's float32 products round differently for other numbers of rows."""
        return False

    @property
    def source_limit(self) -> int:
        """Places of one source, at most."""
        return self._source_limit

    def encode(self, slot: int, source: Source) -> None:
        """See `SourceDecoder.encode`."""
        names = [put.name for put in self._encoder.get_outputs()]
        outputs = dict(zip(names, self._encoder.run(names, {"source": source[None]}), strict=True))
        encoded: list[Tensor] = [outputs[name] for name in self._caches["cross"]]
        length = encoded[0].shape[2]
        self._cross.grow(length)
        for tensor, row in zip(self._cross.tensors, encoded, strict=True):
            tensor[slot, :, :length] = row[0]
        self._lengths[slot] = length

    def compute(self, spans: Sequence[Span]) -> Logits:
        """See `Decoder.compute`: one span, in whose row nothing else is."""
        (span,) = spans
        if span.logits > 1:
            raise InvalidInput(
                "this model gives no log probabilities of a prompt: leave prompt_logprobs out",
                param="prompt_logprobs",
            )
        return self._run(span.slot, [span.tokens], [span.start])[: span.logits]

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """See `Decoder.decode`."""
        return self._run(0, [[token] for token in tokens], positions)

    def move(self, source: int, destination: int, length: int) -> None:
        """See `Decoder.move`; the source goes with it."""
        self._past.move(source, destination, length)
        self._cross.move(source, destination, int(self._lengths[source]))
        self._lengths[destination] = self._lengths[source]

    def release(self, slot: int) -> None:
        """See `Decoder.release`. The slots' memory goes back together, once none of them is in use."""
        self._lengths[slot] = 0
        if not self._lengths.any():
            self._past.shrink()
            self._cross.shrink()

    def reserve_blocks(self, count: int, tokens: int) -> None:  # noqa: ARG002  # none are kept
        """Keys and values depend on the source, so none are kept for other sequences."""
        raise RuntimeError("a model with an encoder keeps no blocks")

    def store(self, slot: int, start: int, block: int) -> None:  # noqa: ARG002  # none are kept
        """See `reserve_blocks`."""
        raise RuntimeError("a model with an encoder keeps no blocks")

    def fetch(self, block: int, slot: int, start: int) -> None:  # noqa: ARG002  # none are kept
        """See `reserve_blocks`."""
        raise RuntimeError("a model with an encoder keeps no blocks")

    def close(self) -> None:
        """Give the sessions and all memory back."""
        del self._encoder, self._decoder, self._past, self._cross

    def _run(self, first: int, tokens: Sequence[Sequence[int]], positions: Sequence[int]) -> Logits:
        """New tokens of the rows from `first` on: float32 [B, vocab_size], after the last of each."""
        rows, count = len(tokens), len(tokens[0])
        self._past.grow(max(positions) + count)
        starts = np.array(positions, dtype=np.int64)
        feeds = {
            "input_ids": np.array(tokens, dtype=np.int64),
            "positions": starts,
            "source_lengths": self._lengths[first : first + rows],
            **dict(zip(self._caches["past"], self._past.read(first, rows), strict=True)),
            **dict(zip(self._caches["cross"], self._cross.read(first, rows), strict=True)),
        }
        names = ["logits", *self._caches["new"]]
        logits, *new = self._decoder.run(names, {name: feeds[name] for name in self._inputs})
        places = starts[:, None] + np.arange(count)
        index = np.arange(first, first + rows)[:, None]
        for tensor, added in zip(self._past.tensors, new, strict=True):
            tensor[index, :, places] = added.transpose(0, 2, 1, 3)
        return np.ascontiguousarray(logits, dtype=np.float32)

    def _check(self) -> None:
        caches = self._caches
        expected = {"input_ids", "positions", *caches["past"], *caches["cross"]}
        _check_names(DECODER_FILE, expected, self._inputs - {"source_lengths"})
        _check_names(DECODER_FILE, {"logits", *caches["new"]}, {put.name for put in self._decoder.get_outputs()})
        _check_names(ENCODER_FILE, {"source"}, {put.name for put in self._encoder.get_inputs()})
        _check_names(ENCODER_FILE, set(caches["cross"]), {put.name for put in self._encoder.get_outputs()})


def _cache_names(spec: Seq2SeqSpec) -> dict[str, list[str]]:
    kinds = ("key", "value")
    return {
        prefix: [f"{prefix}_{kind}.{layer}" for layer in range(spec.layers) for kind in kinds]
        for prefix in ("past", "cross", "new")
    }


def _check_names(file: str, expected: set[str], found: set[str]) -> None:
    if expected != found:
        differ = ", ".join(sorted(expected ^ found)[:6])
        raise CorruptFile(f"{file} is not what the manifest says (see {differ}); import the model again")
