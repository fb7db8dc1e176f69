"""Token vectors to one vector per text; normalising, shortening, scores. Pure.

Pooling as sentence-transformers does it (`models/Pooling.py`): "mean" over the text's tokens, special ones included,
"cls" its first token, "last" its last one. Padding is ignored.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_TINY = 1e-12
"""As in torch's `normalize`: a vector of zeros stays a vector of zeros."""


def pool(states: Floats, lengths: NDArray[np.int64], kind: Literal["mean", "cls", "last", "none"]) -> Floats:
    """float32 `[B, H]` from `states`, float32 `[B, S, H]` (`[B, H]` for "none"), of texts padded on the right."""
    if kind == "none":
        return states
    rows = np.arange(len(states))
    if kind == "cls":
        return states[:, 0]
    if kind == "last":
        return states[rows, lengths - 1]
    mask = np.arange(states.shape[1]) < lengths[:, None]
    # Not a product with the mask: NaN or infinity in padding would reach the mean.
    masked = np.where(mask[..., None], states, np.float32(0.0))
    means: Floats = masked.sum(axis=1) / lengths[:, None].astype(np.float32)
    return means


def rows_of(states: Floats, lengths: NDArray[np.int64]) -> list[Floats]:
    """The vectors of each text's tokens, float32 `[tokens, H]`, without those of padding."""
    return [states[row, :length] for row, length in enumerate(lengths)]


def normalized(vectors: Floats) -> Floats:
    """Each vector (the last axis) at length 1."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = vectors / np.maximum(lengths, np.float32(_TINY))
    return scaled


def shortened(vector: Floats, dimensions: int) -> Floats:
    """The first `dimensions` numbers, normalised again (Matryoshka: the first numbers carry most of the meaning)."""
    return normalized(vector[:dimensions])


def scores(logits: Floats, activation: Literal["softmax", "sigmoid", "none"]) -> Floats:
    """A classifier's outputs (the last axis) as scores."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        positive: Floats = 0.5 * (1.0 + np.tanh(0.5 * logits))  # does not overflow
        return positive
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return shares
