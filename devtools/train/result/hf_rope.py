"""A rotation as the parameters of `config.json`: the way back of `devtools.convert.hf.rope`.

A decoder knows only frequencies, whatever file they came from. Each kind of scaling is solved for its parameters, and
the one whose frequencies are those is written.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from devtools.convert.decoder.rope import Frequencies, Rope, Yarn, llama3, plain
from shared.errors import UnsupportedFormat

_TOLERANCE = 2e-6
"""Relative; a GGUF holds Llama 3's factors as float32."""
_LOW, _HIGH = 1.0, 4.0
"""Of Llama 3."""
_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 64.0)
_ORIGINALS = (4096, 8192, 32_768)


def rope_parameters(rope: Rope, context_length: int) -> tuple[float, dict[str, Any] | None]:
    """`rope_theta` and `rope_scaling`.

    Raises:
        UnsupportedFormat: no kind of scaling gives these frequencies.
    """
    size = 2 * len(rope.frequencies)
    for base, scaling, frequencies in _candidates(rope, context_length, size):
        if np.allclose(frequencies, rope.frequencies, rtol=_TOLERANCE, atol=0):
            return base, scaling
    raise UnsupportedFormat(
        "the rotation of this model can't be written as a config.json; train an adapter and keep it as one",
        param="result",
    )


def _candidates(
    rope: Rope, context_length: int, size: int
) -> Iterator[tuple[float, dict[str, Any] | None, Frequencies]]:
    given = rope.frequencies
    if size == 2:
        yield 10_000.0, None, plain(10_000.0, size)
        return
    if rope.magnitude == 1:
        base = _rounded((given[-1] / given[0]) ** (-size / (size - 2)))
        yield base, None, plain(base, size)
        factor = _rounded(1 / given[0])
        yield base, {"rope_type": "linear", "factor": factor}, plain(base, size) / factor
    for base, factor in _stretched(given, size):
        unscaled = plain(base, size)
        if rope.magnitude == 1:
            original = _llama3_original(given / unscaled, unscaled, factor)
            yield base, {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": _LOW, "high_freq_factor": _HIGH,
                "original_max_position_embeddings": original,
            }, llama3(unscaled, factor=factor, low=_LOW, high=_HIGH, original=original)  # fmt: skip
        for original in dict.fromkeys((round(context_length / factor), context_length, *_ORIGINALS)):
            for rounded in (True, False):
                yield base, {
                    "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                    "attention_factor": rope.magnitude, "truncate": rounded,
                }, Yarn(factor, original, rounded=rounded).scale(base, size)  # fmt: skip


def _stretched(given: Frequencies, size: int) -> Iterator[tuple[float, float]]:
    """Bases, and factors by which the slowest pair is slowed down.

    The base follows from a pair that is not slowed down, which the second one is in all models of ordinary size; else
    from a factor.
    """
    base = _rounded(given[1] ** (-size / 2))
    factor = _rounded(plain(base, size)[-1] / given[-1])
    if factor > 1:
        yield base, factor
    for factor in _FACTORS:
        yield _rounded((given[-1] * factor) ** (-size / (size - 2))), factor


def _llama3_original(share: Frequencies, unscaled: Frequencies, factor: float) -> int:
    """The context for which fast pairs are fast and slow ones slow, by a pair between them where there is one."""
    between = np.flatnonzero((share < 1 - 1e-4) & (share > 1 / factor + 1e-4))
    if len(between):
        pair = between[0]
        unscaled_share = (share[pair] - 1 / factor) / (1 - 1 / factor)
        return round((_LOW + unscaled_share * (_HIGH - _LOW)) * 2 * math.pi / unscaled[pair])
    slow = np.flatnonzero(share <= 1 / factor + 1e-4)
    return int(_LOW * 2 * math.pi / unscaled[slow[0]]) if len(slow) else 8192


def _rounded(value: float) -> float:
    """A whole number, or one of few digits, where `value` is one but for rounding."""
    short = float(f"{value:.6g}")
    return short if math.isclose(value, short, rel_tol=2e-6) else float(value)
