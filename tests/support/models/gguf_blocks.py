"""Raw blocks of any quantised GGUF type: random bits with sensible scales, where `gguf` can't quantise."""

from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

HALVES = {
    Type.Q4_0: (0,),
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0,),
    Type.Q5_1: (0, 2),
    Type.Q8_0: (0,),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.IQ4_NL: (0,),
    Type.IQ4_XS: (0,),
}
"""Where in a block the float16 scales and minima lie; every other byte may have any value."""

_LARGEST = {
    Type.Q4_0: 8,
    Type.Q4_1: 16,
    Type.Q5_0: 16,
    Type.Q5_1: 32,
    Type.Q8_0: 128,
    Type.Q2_K: 15 * 3,
    Type.Q3_K: 32 * 4,
    Type.Q4_K: 63 * 15,
    Type.Q5_K: 63 * 31,
    Type.Q6_K: 128 * 32,
    Type.IQ4_NL: 127,
    Type.IQ4_XS: 32 * 127,
}
"""About the largest multiple of the scale that a weight can be."""


def random_blocks(kind: Type, rows: int, columns: int, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [rows, bytes per row]; the weights are of about the size that keeps activations as they are."""
    random = np.random.default_rng(seed)
    size, size_bytes = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * columns // size, size_bytes), dtype=np.uint8)
    for number, at in enumerate(HALVES[kind]):
        scale = 3 / _LARGEST[kind] / np.sqrt(columns) * random.uniform(0.5, 1, len(blocks))
        if number == 1:  # a minimum: about half the range below zero, or (in a super-block) its multiples above it
            half = scale * (-8 if kind in (Type.Q4_1, Type.Q5_1) else 1)
            scale = half
        blocks[:, at : at + 2] = scale.astype("<f2")[:, None].view(np.uint8)
    return blocks.reshape(rows, -1)
