"""Takes the outliers out of activations: what a channel is divided by, the weights behind it are multiplied by.

A few channels of a decoder's activations are ten to a hundred times larger than the others; rounded to int8 with one
step per row, they leave the others a handful of values. Dividing channel k by `s[k]` and multiplying column k of the
next matrix by it changes nothing but the rounding, and costs nothing where the division goes into what made the
channel: the weight of a norm, rows of the value matrix, rows of the up matrix. Source: Xiao et al., "SmoothQuant",
ICML 2023; its exponent is searched per matrix.
"""

from collections.abc import Callable

import numpy as np

from devtools.convert.block_matrix import Floats
from devtools.convert.channel_matrix import nearest_channels, quantise_rows

_EXPONENTS = np.linspace(0.0, 1.0, 11)
_ROWS, _TOKENS = 4096, 256
"""Output channels and tokens that a candidate is judged by: evenly spread over all."""
_SMALL = np.float32(1e-5)


def smoothing(
    inputs: Floats,
    weights: Floats,
    tie: Callable[[Floats], Floats] = lambda channels: channels,
    *,
    fine: bool = False,
) -> Floats:
    """What to divide the channels of `inputs` [T, K] by, so that `inputs @ weights.T` in int8 errs least: [K].

    Args:
        inputs: Activations on typical text.
        weights: [N, K].
        tie: Makes channels alike that can only be divided by the same: [K] to [K].
        fine: Whether the inputs are rounded twice (`ChannelMatrix.fine`).
    """
    x, w = _spread(inputs, _TOKENS), _spread(weights, _ROWS)
    wanted = x @ w.T
    loudest, heaviest = tie(np.abs(inputs).max(axis=0)), tie(np.abs(weights).max(axis=0))
    loudest = np.maximum(loudest, _SMALL * max(float(loudest.max()), 1e-30))
    heaviest = np.maximum(heaviest, _SMALL * max(float(heaviest.max()), 1e-30))
    best = np.ones_like(loudest)
    least = _loss(x, w, wanted, best, fine=fine)
    for exponent in _EXPONENTS:
        factors = loudest**exponent / heaviest ** (1 - exponent)
        factors = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
        loss = _loss(x, w, wanted, factors, fine=fine)
        if loss < least:
            best, least = factors, loss
    return best


def tie_heads(heads: int, kv_heads: int) -> Callable[[Floats], Floats]:
    """For the output of attention: the query heads of a group mix the same value channels."""

    def tie(channels: Floats) -> Floats:
        grouped = channels.reshape(kv_heads, heads // kv_heads, -1)
        return np.broadcast_to(grouped.max(axis=1, keepdims=True), grouped.shape).reshape(-1).copy()

    return tie


def _loss(x: Floats, w: Floats, wanted: Floats, factors: Floats, *, fine: bool) -> float:
    product = quantise_rows(x / factors, fine=fine) @ nearest_channels(w * factors).dequantise().T
    return float(np.square(product - wanted).sum(dtype=np.float64))


def _spread(rows: Floats, count: int) -> Floats:
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(np.intp)]
