"""The exported graphs against the logits of the unchanged model."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shared.contracts.manifest import Seq2SeqSpec
from shared.errors import UnsupportedFormat

_TOLERANCE = 2e-3
"""Of the largest logit: float32 in another order."""


def check_graphs(folder: Path, spec: Seq2SeqSpec, reference: Path) -> float:
    """The largest error, as a part of the largest logit.

    Both sources of `reference` are computed as rows of one batch, at different places: the longer one's tokens one by
    one, the shorter one's beside them from its beginning.

    Raises:
        UnsupportedFormat: The graphs do not compute what the model does.
    """
    encoder, decoder = (ort.InferenceSession(folder / f"{name}.onnx") for name in ("encoder", "decoder"))
    inputs = {put.name for put in decoder.get_inputs()}
    with np.load(reference) as read:
        arrays = {name: read[name] for name in read.files}
    names = [put.name for put in encoder.get_outputs()]
    encoded = [encoder.run(names, {"source": arrays[f"source.{row}"]}) for row in range(2)]
    lengths = [tensors[0].shape[2] for tensors in encoded]
    cross = {
        name: np.concatenate([_padded(encoded[row][index], max(lengths)) for row in range(2)])
        for index, name in enumerate(names)
    }
    tokens = [arrays[f"tokens.{row}"][0] for row in range(2)]
    past_names = [name.replace("cross_", "past_") for name in names]
    new_names = [name.replace("cross_", "new_") for name in names]
    places = len(tokens[0])
    pasts = [np.zeros((2, spec.heads, places, spec.head_dim), np.float32) for _ in names]
    worst, largest = 0.0, 1e-6
    done = [0, 0]
    for step in range(places):
        rows = [row for row in range(2) if done[row] < len(tokens[row]) and (row == 0 or step >= 2)]
        feeds = {
            "input_ids": np.array([[tokens[row][done[row]]] for row in rows], np.int64),
            "positions": np.array([done[row] for row in rows], np.int64),
            "source_lengths": np.array([lengths[row] for row in rows], np.int64),
            **{name: tensor[rows] for name, tensor in zip(past_names, pasts, strict=True)},
            **{name: tensor[rows] for name, tensor in cross.items()},
        }
        logits, *new = decoder.run(["logits", *new_names], {name: feeds[name] for name in inputs})
        for index, row in enumerate(rows):
            for past, added in zip(pasts, new, strict=True):
                past[row, :, done[row]] = added[index, :, 0]
            expected = arrays[f"logits.{row}"][0, done[row]]
            worst = max(worst, float(np.abs(logits[index] - expected).max()))
            largest = max(largest, float(np.abs(expected).max()))
            done[row] += 1
    error = worst / largest
    if not error <= _TOLERANCE:
        raise UnsupportedFormat(
            f"the exported graphs do not compute what the model does: logits differ by {error:.2g} of the largest",
            param="source",
        )
    return error


def _padded(tensor: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    return np.pad(tensor, ((0, 0), (0, 0), (0, length - tensor.shape[2]), (0, 0)), constant_values=7.0)
