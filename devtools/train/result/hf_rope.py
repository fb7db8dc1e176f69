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
    base = _rounded(given[1] ** (-size / 2))
    unscaled = plain(base, size)
    factor = _rounded(unscaled[-1] / given[-1])
    if rope.magnitude == 1 and factor > 1:
        original = _llama3_original(given / unscaled, unscaled, factor)
        yield base, {
            "rope_type": "llama3", "factor": factor, "low_freq_factor": _LOW, "high_freq_factor": _HIGH,
            "original_max_position_embeddings": original,
        }, llama3(unscaled, factor=factor, low=_LOW, high=_HIGH, original=original)  # fmt: skip
    for original in dict.fromkeys((round(context_length / max(factor, 1)), context_length, 4096, 8192, 32_768)):
        for rounded in (True, False):
            yarn = Yarn(factor, original, rounded=rounded)
            yield base, {
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                "attention_factor": rope.magnitude, "truncate": rounded,
            }, yarn.scale(base, size)  # fmt: skip


def _llama3_original(share: Frequencies, unscaled: Frequencies, factor: float) -> int:
    """The context that a pair between fast and slow gives away; 8192 where there is none."""
    between = np.flatnonzero((share < 1 - 1e-4) & (share > 1 / factor + 1e-4))
    if not len(between):
        return 8192
    pair = between[0]
    unscaled_share = (share[pair] - 1 / factor) / (1 - 1 / factor)
    return round((_LOW + unscaled_share * (_HIGH - _LOW)) * 2 * math.pi / unscaled[pair])


def _rounded(value: float) -> float:
    """A whole number, or one of few digits, where `value` is one but for rounding."""
    short = float(f"{value:.6g}")
    return short if math.isclose(value, short, rel_tol=2e-6) else float(value)
