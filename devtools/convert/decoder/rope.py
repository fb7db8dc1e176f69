"""Rotary position embedding: the frequency of each pair of dimensions of a head, and the tables of angles.

Sources: RoFormer (https://arxiv.org/abs/2104.09864); linear scaling (https://arxiv.org/abs/2306.15595); Llama 3.1's
(https://github.com/meta-llama/llama-models, `apply_scaling`); YaRN (https://arxiv.org/abs/2309.00071). Where those
leave room, transformers and llama.cpp agree, and this follows them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from devtools.convert.graph.block_matrix import Floats

Frequencies = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Rope:
    """One way of turning heads.

    name: `global`, or `local` for the layers with a sliding window, where those have frequencies of their own
    frequencies: float64 [head_dim / 2], radians per position
    magnitude: What cosines and sines are multiplied by (YaRN's attention factor)
    """

    name: str
    frequencies: Frequencies
    magnitude: float = 1.0

    def caches(self, positions: int) -> tuple[Floats, Floats]:
        """Cosines and sines, float32 [positions, head_dim / 2], times the magnitude."""
        angles = np.arange(positions, dtype=np.float64)[:, None] * self.frequencies
        cos, sin = np.cos(angles) * self.magnitude, np.sin(angles) * self.magnitude
        return cos.astype(np.float32), sin.astype(np.float32)


def plain(base: float, dimensions: int) -> Frequencies:
    """`base ** (-2i / dimensions)` for each pair i."""
    frequencies: Frequencies = base ** (-np.arange(0, dimensions, 2, dtype=np.float64) / dimensions)
    return frequencies


def llama3(frequencies: Frequencies, *, factor: float, low: float, high: float, original: int) -> Frequencies:
    """Slow pairs `factor` times slower, fast ones as they are, those between in proportion.

    Args:
        frequencies: What to scale.
        factor: How much longer the context is.
        low: Pairs that turn fewer times than this in the original context are slow.
        high: Pairs that turn more often are fast.
        original: Tokens of the context that the model was first trained for.
    """
    turns = original * frequencies / (2 * math.pi)
    unscaled = np.clip((turns - low) / (high - low), 0, 1)
    scaled: Frequencies = frequencies * (unscaled + (1 - unscaled) / factor)
    return scaled


@dataclass(frozen=True, slots=True)
class Yarn:
    """The parameters of YaRN; defaults are the paper's.

    factor: How much longer the context is
    original: Tokens of the context that the model was first trained for
    fast: Pairs that turn more often than this in the original context are kept
    slow: Pairs that turn fewer times are slowed down by `factor`
    rounded: Whether the borders between those are whole pairs
    """

    factor: float
    original: int
    fast: float = 32.0
    slow: float = 1.0
    rounded: bool = True

    def scale(self, base: float, dimensions: int) -> Frequencies:
        """The frequencies of `base`, scaled."""
        frequencies = plain(base, dimensions)
        low, high = self._border(self.fast, base, dimensions), self._border(self.slow, base, dimensions)
        if self.rounded:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dimensions - 1)
        slowed = np.clip((np.arange(dimensions // 2) - low) / max(high - low, 0.001), 0, 1)
        scaled: Frequencies = frequencies * (1 - slowed) + frequencies / self.factor * slowed
        return scaled

    @property
    def magnitude(self) -> float:
        """The paper's attention factor, on cosines and sines."""
        return yarn_magnitude(self.factor)

    def _border(self, turns: float, base: float, dimensions: int) -> float:
        """The pair (a real number) that turns `turns` times in the original context."""
        return dimensions * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(base))


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """`0.1 * weight * ln(factor) + 1`, or 1 where the context is not longer."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0
