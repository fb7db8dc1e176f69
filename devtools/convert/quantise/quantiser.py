"""LLMOS's own quantiser: float matrices to 4 or 8 bits per weight, with the scales that lose least.

int4 is asymmetric in blocks of 32, `w = scale * q + offset`: the form of GGUF's Q4_1, which graphs multiply by
exactly. For every block, candidates are made by clipping a part of either end of its range; rounding to a candidate's
grid gives integers, for which the best scale and offset have a closed form (weighted least squares); the candidate
with the smallest squared error wins and is improved by rounding to its own best grid again (Lloyd's algorithm). This
is the search of llama.cpp's `make_qkx2_quants`, over both ends.

int8 is symmetric in blocks of 32, `w = scale * (q - 128)`: GGUF's Q8_0 with the best scale for its integers.

An error counts by the `importance` of its input, the mean square of what the model multiplies the column by.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from devtools.convert.graph.block_matrix import BLOCK, BlockMatrix, Bytes, Floats

CHUNK = 4096
"""Blocks that a thread works on at once: half a megabyte an array, which stays in the cache."""
_LEVELS = 15
_CLIPPED = tuple(float(levels) / (_LEVELS + levels) for levels in np.linspace(-1, 1, 11))
"""Parts of the range by which an end is moved in; negative is out."""
_RANGES = tuple(dict.fromkeys([*((0.0, part) for part in _CLIPPED), *((part, 0.0) for part in _CLIPPED)]))
_ROUNDS = 2
_NOTHING = 1e-30
"""Steps smaller than this are none: their inverse would be no number."""


def quantise_int4(weights: Floats, importance: Floats | None = None) -> BlockMatrix:
    """The matrix that is nearest to `weights` [N, K], K a multiple of 32, among those of 4 bits with an offset.

    Args:
        weights: float32.
        importance: float32 [K], how much an error in a column counts; None for all alike.
    """
    return BlockMatrix(4, *_in_chunks(_nearest_int4, weights, importance))


def quantise_int8(weights: Floats, importance: Floats | None = None) -> BlockMatrix:
    """The matrix that is nearest to `weights` [N, K], K a multiple of 32, among those of 8 bits without an offset."""
    codes, scales, _ = _in_chunks(_nearest_int8, weights, importance)
    return BlockMatrix(8, codes, scales, None)


_Quantised = tuple[Bytes, Floats, Floats]
"""Codes [32, B], scales [B], offsets [B]."""


def _in_chunks(
    nearest: Callable[[Floats, Floats], _Quantised], weights: Floats, importance: Floats | None
) -> _Quantised:
    rows, columns = weights.shape
    blocks = weights.reshape(-1, BLOCK)
    per_row = columns // BLOCK
    if importance is None:
        importance = np.ones(columns, np.float32)
    # A column that was never used still counts a little: the text may not have shown what it is for.
    importance = (importance / max(float(importance.mean()), 1e-30) + np.float32(0.01)).astype(np.float32)
    counts = importance.reshape(per_row, BLOCK)
    codes = np.empty((len(blocks), BLOCK), np.uint8)
    scales, offset = np.empty(len(blocks), np.float32), np.empty(len(blocks), np.float32)

    def work(start: int) -> None:
        here = slice(start, min(start + CHUNK, len(blocks)))
        which = np.arange(here.start, here.stop) % per_row
        with np.errstate(over="ignore", invalid="ignore"):  # absurd weights make an absurd graph, which is refused
            found = nearest(np.ascontiguousarray(blocks[here].T), np.ascontiguousarray(counts[which].T))
        codes[here], scales[here], offset[here] = found[0].T, found[1], found[2]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy works without the interpreter's lock
        list(pool.map(work, range(0, len(blocks), CHUNK)))
    return codes.reshape(rows, columns), scales.reshape(rows, per_row), offset.reshape(rows, per_row)


def _nearest_int4(weights: Floats, counts: Floats) -> _Quantised:
    """Blocks `weights` [32, B] and what their errors count, likewise."""
    # Around the mean, so that sums of squares keep their digits.
    mean = np.einsum("ib,ib->b", weights, counts) / counts.sum(axis=0)
    x = weights - mean
    low, spread = x.min(axis=0), np.ptp(x, axis=0)
    fit = _Fit(x, counts)
    codes = np.empty_like(x)
    best = np.zeros_like(low), np.zeros_like(low), np.full_like(low, np.inf)
    for from_low, from_high in _RANGES:
        step = spread * np.float32((1 - from_low - from_high) / _LEVELS)
        start = low + spread * np.float32(from_low)
        _keep_better(best, fit.solve(_round_to(codes, x, step, start)))
    for _ in range(_ROUNDS):
        _keep_better(best, fit.solve(_round_to(codes, x, best[0], best[1])))
    scale, start, _ = best
    _round_to(codes, x, scale, start)
    return codes.astype(np.uint8), scale, start + mean


def _nearest_int8(weights: Floats, counts: Floats) -> _Quantised:
    scale = np.abs(weights).max(axis=0) / np.float32(127)
    codes = np.rint(weights / np.where(scale < _NOTHING, np.float32(1), scale))
    weighted = codes * counts
    norm = np.einsum("ib,ib->b", weighted, codes)
    scale = np.where(norm > 0, np.einsum("ib,ib->b", weighted, weights) / np.where(norm > 0, norm, 1), scale)
    return (codes + 128).astype(np.uint8), scale, np.zeros_like(scale)


def _round_to(codes: Floats, x: Floats, step: Floats, start: Floats) -> Floats:
    """The nearest of the 16 values `start + step * q` for every x, as its q, written into `codes`."""
    inverse = 1 / np.where(np.abs(step) < _NOTHING, np.float32(1), step)
    np.multiply(x, inverse, out=codes)
    codes -= start * inverse
    np.rint(codes, out=codes)
    return np.clip(codes, 0, _LEVELS, out=codes)


class _Fit:
    """Weighted least squares of `x ~ scale * q + start`, per block."""

    def __init__(self, x: Floats, counts: Floats) -> None:
        self._x, self._counts = x, counts
        self._total = counts.sum(axis=0)
        self._sum = np.einsum("ib,ib->b", x, counts)

    def solve(self, codes: Floats) -> tuple[Floats, Floats, Floats]:
        """The best scale and start for `codes` [32, B], and their squared error less a constant of the block."""
        weighted = codes * self._counts
        q, qq = weighted.sum(axis=0), np.einsum("ib,ib->b", weighted, codes)
        qx = np.einsum("ib,ib->b", weighted, self._x)
        determinant = self._total * qq - q * q
        flat = determinant <= 1e-6 * self._total * qq  # all codes alike: a constant block
        scale = np.where(flat, 0, (self._total * qx - q * self._sum) / np.where(flat, 1, determinant))
        start = (self._sum - scale * q) / self._total
        return scale.astype(np.float32), start.astype(np.float32), -(scale * qx + start * self._sum)


def _keep_better(best: tuple[Floats, Floats, Floats], other: tuple[Floats, Floats, Floats]) -> None:
    """Replace in `best` (scale, start, error) what has a larger error than in `other`."""
    better = other[2] < best[2]
    for current, new in zip(best, other, strict=True):
        np.copyto(current, new, where=better)
