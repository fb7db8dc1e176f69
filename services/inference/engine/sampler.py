"""Logits to token ids, vectorised over the batch and reproducible.

Each row is computed by operations that never look at another row, and its randomness is a function of
(seed, position) alone: a sequence gets the same tokens alone, in any batch, and resumed elsewhere.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.inference.engine.decoder import Logits
from services.inference.engine.sequence import SamplingParams

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_COLDEST = np.float32(1e-5)
"""A lower temperature changes nothing any more, but would overflow."""
_WEIGHT_FLOORS = (2.0**-6, 2.0**-14, 0.0)
"""Where to cut the tail of the weights when looking for the most likely tokens: the first cut that keeps enough."""


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits: splitmix64 of the seed, stepped to `position`.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    return (_mix(_mix(seed & _MASK) + position * _GOLDEN) >> 11) * 2.0**-53


def sample(logits: Logits, params: Sequence[SamplingParams], positions: Sequence[int]) -> list[int]:
    """Choose one token per row.

    Args:
        logits: float32 [B, V]; not changed.
        params: B parameters.
        positions: B indices of the tokens to choose, counted from the start of the prompt.

    Returns:
        B token ids. Among equal logits, the lowest id counts as the most likely.
    """
    drawn = [row for row, param in enumerate(params) if param.temperature > 0.0]
    chosen: list[int] = np.argmax(logits, axis=1).tolist()
    if drawn:
        weights = _weights(logits[drawn], [params[row].temperature for row in drawn])
        for row, weight in zip(drawn, weights, strict=True):
            chosen[row] = _draw(weight, params[row], uniform(params[row].seed, positions[row]))
    return chosen


def _weights(logits: Logits, temperatures: list[float]) -> NDArray[np.float32]:
    """Probabilities [B, V] up to a factor per row: the most likely token weighs 1."""
    scaled: NDArray[np.float32] = logits - logits.max(axis=1, keepdims=True)
    scaled /= np.maximum(np.array(temperatures, dtype=np.float32), _COLDEST)[:, None]
    np.exp(scaled, out=scaled)
    return scaled


def _draw(weights: NDArray[np.float32], params: SamplingParams, point: float) -> int:
    """One token from a row by inverting its cumulative distribution at `point` in [0, 1)."""
    if params.top_k == 0 and params.top_p == 1.0:
        return _invert(np.cumsum(weights, dtype=np.float64), point)
    tokens = _allowed(weights, params)
    return int(tokens[_invert(np.cumsum(weights[tokens], dtype=np.float64), point)])


def _allowed(weights: NDArray[np.float32], params: SamplingParams) -> NDArray[np.intp]:
    """The tokens that top-k, then top-p on what top-k left, let through, by id. At least one.

    Only values are sorted, never ids: numpy sorts float32 with SIMD, ten times faster than it argsorts.
    """
    enough = min(params.top_k or weights.size, weights.size)
    total = float(weights.sum(dtype=np.float64))
    for floor in _WEIGHT_FLOORS:
        found = weights[weights >= floor]
        if found.size >= enough or float(found.sum(dtype=np.float64)) >= params.top_p * total:
            break
    found = np.sort(found)[::-1][:enough]
    if params.top_p < 1.0:
        cumulative = np.cumsum(found, dtype=np.float64)
        kept_total = float(cumulative[-1]) if found.size == enough else total
        found = found[: int(np.searchsorted(cumulative, params.top_p * kept_total)) + 1]
    least = found[-1]
    above = np.flatnonzero(weights > least)
    level = np.flatnonzero(weights == least)[: found.size - above.size]
    return np.sort(np.concatenate((above, level)))


def _invert(cumulative: NDArray[np.float64], point: float) -> int:
    index = int(np.searchsorted(cumulative, point * cumulative[-1], side="right"))
    return min(index, cumulative.size - 1)


def _mix(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
