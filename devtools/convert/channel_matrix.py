"""The form of a matrix that is multiplied in whole numbers: int8 weights with one scale per output channel ("W8A8").

    y[n] = a / 127 * scale[n] * sum_k codes[n, k] * round(127 * x[k] / a),    a = max |x|

The sum is exact: it does not depend on the order in which a kernel adds, so a row gives the same bits alone, in any
batch, on any processor and on any number of threads. Block forms add a scaled sum per block, which rounds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from devtools.convert.block_matrix import Floats

Codes = np.ndarray[Any, np.dtype[np.int8]]

LARGEST = 63
"""Codes lie within ±63: x86 without VNNI adds two products of a uint8 and an int8 in 16 bits with saturation, and
255 * 63 * 2 is the most that fits. An eighth bit would be lost exactly where it matters."""


STEPS = 127
"""Of activations, to either side of zero."""
FINE_STEPS = 254
"""Parts of a step that are told apart where activations are `fine`: what was rounded off lies within half a step."""


@dataclass(frozen=True, slots=True)
class ChannelMatrix:
    """A weight matrix of N rows (output channels) and K columns: `w[n, k] = scales[n] * codes[n, k]`.

    codes: int8 [N, K], within ±`LARGEST`
    scales: float32 [N]
    fine: Whether what rounding takes off its inputs is multiplied as well, in a second row
    """

    codes: Codes
    scales: Floats
    fine: bool = False

    @property
    def rows(self) -> int:
        """N, the output features."""
        return int(self.codes.shape[0])

    @property
    def columns(self) -> int:
        """K, the input features."""
        return int(self.codes.shape[1])

    def dequantise(self, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
        """The weights of `rows` as float32 [rows, K]."""
        weights: Floats = self.codes[rows] * self.scales[rows][..., None]
        return weights


def nearest_channels(weights: Floats, *, fine: bool = False) -> ChannelMatrix:
    """The matrix `weights` [N, K] with every weight rounded."""
    largest = np.abs(weights).max(axis=1)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(LARGEST)
    return ChannelMatrix(np.rint(weights / scales[:, None]).astype(np.int8), scales, fine)


def quantise_rows(x: Floats, *, fine: bool = False) -> Floats:
    """`x [..., K]` as a graph sees it: each row rounded to steps of its own largest value."""
    largest = np.abs(x).max(axis=-1, keepdims=True)
    step = np.where(largest > 0, largest, 1) / np.float32(STEPS * (FINE_STEPS if fine else 1))
    return np.asarray(np.rint(x / step) * step, np.float32)
