"""The checks after every import of an encoder, on the graph as it will be served.

A graph that was built here must agree with a NumPy forward pass on the source's weights, one that was exported must
give a text the same numbers alone and beside a longer one: exporters that forget the mask are caught.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from devtools.convert.encoder.config import EncoderConfig
from devtools.convert.encoder.reference import EncoderReference
from devtools.convert.encoder.weights import EncoderWeights
from devtools.convert.graph.block_matrix import Floats
from shared.contracts.manifest import EncoderInput
from shared.errors import UnsupportedFormat

_LENGTHS = (5, 12)
"""Tokens of the two texts of a check; the first is padded."""
_TOLERANCE = 1e-4
"""Root mean square of the difference over that of the expected numbers."""

Ids = NDArray[np.int64]


def check_against_reference(
    folder: Path, config: EncoderConfig, weights: EncoderWeights, inputs: Sequence[EncoderInput]
) -> float:
    """Compare `folder/model.onnx` with the reference; returns the relative error.

    Raises:
        UnsupportedFormat: the graph does not compute what the weights say.
    """
    ids, types = _texts(config)
    output = _run(_open(folder), None, inputs, ids, types, config=config)
    reference = EncoderReference(config, weights)
    error = max(
        _relative(_text(output, row, config), reference.output(ids[row], types[row])) for row in range(len(ids))
    )
    if not error <= _TOLERANCE:
        raise UnsupportedFormat(
            f"the built graph does not agree with the file's weights (relative error {error:.2g}): nothing was"
            " written; please report this model",
            param="source",
        )
    return error


def check_rows_independent(
    folder: Path, config: EncoderConfig, inputs: Sequence[EncoderInput], output: str, *, tolerance: float
) -> float:
    """Compare each text's numbers alone with those beside the others; returns the relative error.

    Raises:
        UnsupportedFormat: they differ, or the graph does not run.
    """
    ids, types = _texts(config)
    session = _open(folder)
    try:
        together = _run(session, output, inputs, ids, types, config=config)
        alone = [
            _run(session, output, inputs, [row], [kind], config=config) for row, kind in zip(ids, types, strict=True)
        ]
    except Exception as problem:  # onnxruntime raises a dozen classes without a common base
        raise UnsupportedFormat(f"the graph does not run: {problem}", param="source") from problem
    pairs = [(_row(together, row, len(ids[row])), _row(one, 0, len(ids[row]))) for row, one in enumerate(alone)]
    error = max(_relative(got, expected) for got, expected in pairs)
    if not error <= tolerance:
        raise UnsupportedFormat(
            f"the graph gives a text other numbers beside a longer one (relative error {error:.2g}): was it exported"
            " with its attention mask?",
            param="source",
        )
    return error


def one_output(
    folder: Path, config: EncoderConfig, inputs: Sequence[EncoderInput], output: str, ids: Sequence[int]
) -> Floats:
    """The graph's output for one text: [1, S, output_size], or [1, output_size] if it pools itself."""
    tokens = np.array(ids, np.int64)
    return _run(_open(folder), output, inputs, [tokens], [np.zeros_like(tokens)], config=config)


def _texts(config: EncoderConfig) -> tuple[list[Ids], list[Ids]]:
    random = np.random.default_rng(0)
    lengths = [min(length, config.max_len) for length in _LENGTHS]
    ids = [random.integers(0, config.vocab_size, length) for length in lengths]
    # The last two tokens of each are of another type, where there is one.
    kinds = [(np.arange(length) >= length - 2).astype(np.int64) * (config.type_vocab_size > 1) for length in lengths]
    return ids, kinds


def _open(folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise UnsupportedFormat(f"ONNX Runtime can't load the graph: {error}", param="source") from error


def _run(
    session: onnxruntime.InferenceSession, output: str | None, inputs: Sequence[EncoderInput], ids: Sequence[Ids],
    types: Sequence[Ids], *, config: EncoderConfig,
) -> Floats:  # fmt: skip
    longest = max(map(len, ids))
    shape = (len(ids), longest)
    feeds: dict[str, Ids] = {
        "input_ids": np.full(shape, config.pad_token_id, np.int64),
        "attention_mask": np.zeros(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
        "position_ids": np.broadcast_to(np.arange(longest) + config.position_offset, shape).copy(),
    }
    for row, (tokens, kinds) in enumerate(zip(ids, types, strict=True)):
        feeds["input_ids"][row, : len(tokens)] = tokens
        feeds["attention_mask"][row, : len(tokens)] = 1
        feeds["token_type_ids"][row, : len(tokens)] = kinds
    outputs: Floats = session.run(None if output is None else [output], {name: feeds[name] for name in inputs})[0]
    return outputs


def _text(output: Floats, row: int, config: EncoderConfig) -> Floats:
    return output[row] if config.pooling == "none" else output[row, : min(_LENGTHS[row], config.max_len)]


def _row(output: Floats, row: int, length: int) -> Floats:
    return output[row] if output.ndim == 2 else output[row, :length]


def _relative(got: Floats, expected: Floats) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))
