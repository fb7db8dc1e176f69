"""The frequencies of a rotary position embedding, from its tables of cosines and sines."""

import numpy as np

from devtools.convert.decoder.rope import Frequencies, Rope
from devtools.convert.graph.block_matrix import Floats


def read_rope(name: str, cos: Floats, sin: Floats) -> Rope:
    """The rope whose tables these are.

    A table in float32 gives an angle to 1e-7. The angle at position p is p times the frequency, less whole turns; so
    each doubling of the position halves the error, as long as the turns are known from the position before.

    Args:
        name: As in the graph: `global`, `local`.
        cos: float32 [positions, head_dim / 2], times the magnitude.
        sin: The same.
    """
    magnitude = float(cos[0, 0])
    frequencies: Frequencies = np.zeros(cos.shape[1])
    position = 1
    while position < len(cos):
        angle = np.arctan2(sin[position].astype(np.float64), cos[position].astype(np.float64))
        turns = np.round((frequencies * position - angle) / (2 * np.pi)) if position > 1 else np.zeros_like(angle)
        frequencies = (angle + 2 * np.pi * turns) / position
        position *= 2
    return Rope(name, frequencies, magnitude)
