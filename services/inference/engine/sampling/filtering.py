"""Top-k and top-p filtering of one row, and the draw from it, without sorting the vocabulary.

The row is viewed as a table of `_DEPTH` rows: one SIMD pass finds the maximum (or the sum) of each of its columns,
and only columns that matter are read further. A result depends on nothing but the row.
"""

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.sampling.allowed_tokens import LogitsRow, TokenIds

_DEPTH = 64
_FLOORS = (2.0**-11, 2.0**-16, 0.0)
"""Lower bounds of the weights that `top_p` sorts; it takes the first above which there is enough weight."""


def top_k(row: LogitsRow, count: int) -> TokenIds:
    """The `count` tokens with the largest values, ascending; of equal values those with the lowest ids."""
    if count >= row.size:
        return np.arange(row.size)
    ids = np.flatnonzero(row >= _bound(row, count))
    values = row[ids]
    if ids.size == count:
        return ids
    least = np.partition(values, ids.size - count)[ids.size - count]
    above = values > least
    level = np.flatnonzero(values == least)[: count - int(np.count_nonzero(above))]
    above[level] = True
    found: TokenIds = ids[above]
    return found


def top_p(weights: LogitsRow, total: float, share: float) -> TokenIds:
    """The smallest set of the heaviest tokens that together weigh at least `share` of `total`, ascending.

    It is never empty.

    Args:
        weights: Not negative, the largest is 1.
        total: Their sum.
        share: In (0, 1).
    """
    for floor in _FLOORS:
        ids = np.flatnonzero(weights >= floor)
        found = weights[ids]
        if float(found.sum(dtype=np.float64)) >= share * total:
            break
    # Only values are sorted, never ids: numpy sorts float32 with SIMD, and argsorts without.
    cumulative = np.cumsum(np.sort(found)[::-1], dtype=np.float64)
    count = int(np.searchsorted(cumulative, share * total)) + 1
    return ids if count >= ids.size else ids[top_k(found, count)]


def pick(weights: LogitsRow, point: float) -> int:
    """The index that inverts the cumulative distribution of `weights` at `point` in [0, 1).

    The order of the distribution is that of the table's columns, then the rest; any fixed order would do.
    """
    width = weights.size // _DEPTH
    table = weights[: width * _DEPTH].reshape(_DEPTH, width)
    rest = weights[width * _DEPTH :]
    column, point = _invert(np.concatenate((table.sum(axis=0), rest)), point)
    if column >= width:
        return width * _DEPTH + column - width
    return _invert(table[:, column], point)[0] * width + column


def _invert(weights: NDArray[np.float32], point: float) -> tuple[int, float]:
    """The index whose share of the whole contains `point`, and where in that share it lies, in [0, 1)."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    total = float(cumulative[-1])
    index = int(np.searchsorted(cumulative, point * total, side="right"))
    if index == cumulative.size:  # point * total was rounded up to total
        index = int(np.searchsorted(cumulative, total, side="left"))
    below = float(cumulative[index - 1]) if index else 0.0
    inside = (point * total - below) / (float(cumulative[index]) - below)
    return index, min(max(inside, 0.0), _BELOW_ONE)


_BELOW_ONE = 1.0 - 2.0**-53


def _bound(row: LogitsRow, count: int) -> np.float32:
    """A value that at least `count` values of the row reach, and few more."""
    width = row.size // _DEPTH
    if count > width // 2:
        return np.float32(np.partition(row, row.size - count)[row.size - count])
    columns = row[: width * _DEPTH].reshape(_DEPTH, width).max(axis=0)
    return np.float32(np.partition(columns, width - count)[width - count])
