"""Logits to token ids, reproducible.

No operation on a row reads another row, and its randomness is a function of (seed, position) alone: a sequence gets
the same tokens alone, in any batch, and resumed on another replica.
"""

import math
from dataclasses import dataclass

import numpy as np

from services.inference.engine.sampling.allowed_tokens import LogitsRow
from services.inference.engine.sampling.filtering import pick, top_k, top_p
from services.inference.engine.sampling.logits_processors import LogitsProcessors, Mask, apply_mask
from services.inference.engine.sampling.logprobs import RowScores
from services.inference.engine.sampling.params import SamplingParams, TokenScore

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_COLDEST = 1e-5
"""A lower temperature gives the same tokens, but would overflow."""
_MARGIN = 1e-3
"""The bound of min-p in logits is lower by this than the exact one in weights that follows."""


@dataclass(slots=True)
class Draw:
    """What one choice of a token depends on, besides its logits."""

    params: SamplingParams
    position: int
    """Of the token, counted from the start of the prompt."""
    processors: LogitsProcessors | None = None
    mask: Mask | None = None
    """What a grammar allows."""


@dataclass(slots=True)
class Choice:
    """A chosen token."""

    token: int
    score: TokenScore | None = None
    """With `SamplingParams.logprobs` only."""


def unit_float(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits: splitmix64 of the seed, stepped to `position`.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    return (_mix(_mix(seed & _MASK) + position * _GOLDEN) >> 11) * 2.0**-53


def choose(row: LogitsRow, draw: Draw) -> Choice:
    """Choose one token. Among equal logits, the lowest id ranks first.

    Args:
        row: float32 [V], contiguous; overwritten where there is a mask or a logits processor.
        draw: The parameters.
    """
    params = draw.params
    scores = None
    if params.logprobs is not None:
        scores = RowScores(row if draw.mask is None and draw.processors is None else row.copy(), params.logprobs)
    if draw.mask is not None:
        apply_mask(row, draw.mask)
    if draw.processors is not None:
        draw.processors.apply(row)
    token = int(row.argmax()) if params.temperature == 0.0 else _draw(row, draw)
    return Choice(token, None if scores is None else scores.of(token))


def _draw(row: LogitsRow, draw: Draw) -> int:
    """A token from those that pass min-p, then top-k, then top-p."""
    params, point = draw.params, unit_float(draw.params.seed, draw.position)
    temperature = max(params.temperature, _COLDEST)
    peak = float(row.max())
    ids = None
    if 0 < params.top_k < row.size:
        ids = top_k(row, params.top_k)
    elif params.min_p > 0.0:
        ids = np.flatnonzero(row >= peak + temperature * (math.log(params.min_p) - _MARGIN))
    weights = _weights(row if ids is None else row[ids], peak, temperature)
    if ids is not None and params.min_p > 0.0:
        passed = weights >= params.min_p
        ids, weights = ids[passed], weights[passed]
    if params.top_p < 1.0:
        heaviest = top_p(weights, float(weights.sum()), params.top_p)
        ids, weights = heaviest if ids is None else ids[heaviest], weights[heaviest]
    index = pick(weights, point)
    return index if ids is None else int(ids[index])


def _weights(row: LogitsRow, peak: float, temperature: float) -> LogitsRow:
    """Probabilities up to a factor: the most probable token weighs 1."""
    weights: LogitsRow = row - np.float32(peak)
    weights *= np.float32(1.0 / temperature)
    np.exp(weights, out=weights)
    return weights


def _mix(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
