"""Perplexity before and after quantising, on a text of LLMOS's own (`measure_text.txt`: prose, talk, letters, code).

The text is cut into windows. The original reads all of them in numpy, one matrix in memory at a time, so a model is
measured that would not fit in memory as float32. From every other window comes the importance of each input of each
matrix, which the quantiser weighs errors by; the windows between are those on which original and built graph are
compared, so that nothing is measured on what it was fitted to.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime

import operators
from devtools.convert.decoder.architecture import Architecture, Experts
from devtools.convert.decoder.graph import KV_TYPE
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.model_text import ModelText
from devtools.convert.source import WeightSource
from devtools.convert.verify.reference import Reference

WINDOW, WINDOWS = 512, 4
"""Tokens of a window, and how many there are at most: the text has about 2,000 tokens."""

Windows = Sequence[Sequence[int]]


def text_windows(text: ModelText, context_length: int) -> list[list[int]]:
    """The text in two to four windows of at most `WINDOW` tokens, each beginning as the model's prompts do."""
    ids = text.tokenizer.encode(
        files("devtools.convert.verify").joinpath("measure_text.txt").read_text(encoding="utf-8"),
        add_special_tokens=False,
    ).ids
    begin = [text.bos_token_id] if text.add_bos_token and text.bos_token_id is not None else []
    size = min(WINDOW, context_length, 1 + len(ids) // 2) - len(begin)
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    whole = [part for part in parts if len(part) > size // 4]
    return [begin + part for part in whole[:WINDOWS]]


def compared(windows: Windows) -> Windows:
    """The windows on which original and quantised are compared; importance comes from the others."""
    return windows[1::2]


class Original:
    """What the model does as it was given: its perplexity, and the mean square of every input of every matrix."""

    def __init__(self, perplexity: float, importance: Mapping[str, Floats]) -> None:
        self.perplexity = perplexity
        self.importance = importance


def measure_original(
    arch: Architecture, source: WeightSource, windows: Windows, on_progress: Callable[[float], None]
) -> Original:
    """Read `windows` with the weights of `source`; `on_progress` is called with the fraction that is done."""
    steps = len(windows) * (1 + sum(_products(arch.experts_of(layer)) for layer in range(arch.layers)))
    reference = _Watched(arch, source, lambda done: on_progress(min(1.0, done / steps)))
    surprises: list[float] = []
    for number, window in enumerate(windows):
        reference.listening = number % 2 == 0
        logits = reference.logits(window)
        if number % 2:
            surprises += _surprises(logits, window)
    importance = {name: total / reference.tokens[name] for name, total in reference.squares.items()}
    return Original(_perplexity(surprises), {name: mean.astype(np.float32) for name, mean in importance.items()})


def measure_graph(folder: Path, arch: Architecture, windows: Windows, on_progress: Callable[[float], None]) -> float:
    """The perplexity of `folder/model.onnx` on the compared windows, computed as it will be served."""
    options = onnxruntime.SessionOptions()
    operators.register(options)
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    surprises: list[float] = []
    for number, window in enumerate(compared(windows)):
        surprises += _surprises(_read(session, arch, window), window)
        on_progress((number + 1) / len(compared(windows)))
    return _perplexity(surprises)


def _products(experts: Experts | None) -> int:
    """Of a layer, at most."""
    return 7 if experts is None else 5 + 3 * experts.count + (4 if experts.shared_size else 0)


class _Watched(Reference):
    """A forward pass that sums the squares of what every matrix is multiplied by while it is `listening`."""

    def __init__(self, arch: Architecture, source: WeightSource, on_step: Callable[[int], None]) -> None:
        super().__init__(arch, source)
        self.listening = True
        self.squares: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self.tokens: dict[str, int] = {}
        self._on_step = on_step
        self._steps = 0

    def _linear(self, x: Floats, name: str) -> Floats:
        if self.listening:
            squares = np.einsum("sk,sk->k", x, x, dtype=np.float64)
            self.squares[name] = self.squares.get(name, 0) + squares
            self.tokens[name] = self.tokens.get(name, 0) + len(x)
        product = super()._linear(x, name)
        self._steps += 1
        self._on_step(self._steps)
        return product


def _read(session: onnxruntime.InferenceSession, arch: Architecture, window: Sequence[int]) -> Floats:
    shape = (1, arch.kv_heads, len(window), arch.head_dim)
    feeds = {
        f"past_{kind}.{layer}": np.zeros(shape, KV_TYPE) for layer in range(arch.layers) for kind in ("key", "value")
    } | {
        "input_ids": np.array([window], np.int64),
        "slots": np.zeros(1, np.int32),
        "seqlens_k": np.array([len(window) - 1], np.int32),
        "total_sequence_length": np.array(len(window), np.int32),
        "output_index": np.arange(len(window), dtype=np.int64),
    }
    logits: Floats = session.run(["logits"], feeds)[0]
    return logits


def _surprises(logits: Floats, ids: Sequence[int]) -> Iterator[float]:
    """The negative log likelihood of each of `ids[1:]`, given those before it."""
    for row, following in zip(logits[:-1], ids[1:], strict=True):
        peak = float(row.max())
        yield peak + math.log(float(np.exp(row - peak, dtype=np.float64).sum())) - float(row[following])


def _perplexity(surprises: Sequence[float]) -> float:
    return math.exp(min(sum(surprises) / len(surprises), 700))
