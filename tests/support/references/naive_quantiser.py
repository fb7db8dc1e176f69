"""The plainest 4-bit quantiser: sixteen values from a block's minimum to its maximum. What ours must beat."""

from typing import Any

import numpy as np

from devtools.convert.graph.block_matrix import BLOCK, BlockMatrix


def naive_int4(
    weights: np.ndarray[Any, np.dtype[np.float32]], importance: np.ndarray[Any, Any] | None = None
) -> BlockMatrix:
    """`weights` [N, K] in blocks of 32; `importance` is not looked at."""
    blocks = weights.reshape(len(weights), -1, BLOCK)
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    scales = (high - low) / np.float32(15)
    steps = (blocks - low[..., None]) / np.where(scales == 0, 1, scales)[..., None]
    codes = np.rint(steps).clip(0, 15).astype(np.uint8)
    return BlockMatrix(4, codes.reshape(weights.shape), scales, low)
