"""The forms in which graphs multiply by a matrix, and how several become one."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from devtools.convert.graph.block_matrix import BlockMatrix, Floats

Matrix = BlockMatrix | Floats
"""Floats: float32 [N, K]."""


def join(matrices: Sequence[Matrix]) -> list[tuple[int, Matrix]]:
    """Neighbours whose forms allow it become one matrix, with the rows (output features) of all.

    Returns:
        In order, how many matrices became one, and that one.
    """
    runs = [list(run) for _, run in groupby(matrices, key=_form)]
    return [(len(run), run[0] if len(run) == 1 else _joined(run)) for run in runs]


def _form(matrix: Matrix) -> tuple[int, int]:
    """Bits of a weight, and weights of a block."""
    return (matrix.bits, matrix.block) if isinstance(matrix, BlockMatrix) else (32, 1)


def _joined(run: Sequence[Matrix]) -> Matrix:
    if isinstance(run[0], BlockMatrix):
        return _joined_blocks([matrix for matrix in run if isinstance(matrix, BlockMatrix)])
    return np.concatenate([matrix for matrix in run if isinstance(matrix, np.ndarray)])


def _joined_blocks(blocks: Sequence[BlockMatrix]) -> BlockMatrix:
    codes, scales = (np.concatenate([getattr(matrix, part) for matrix in blocks]) for part in ("codes", "scales"))
    offset = None
    if any(matrix.offset is not None for matrix in blocks):
        middle = np.float32(1 << (blocks[0].bits - 1))
        offset = np.concatenate(
            [-middle * matrix.scales if matrix.offset is None else matrix.offset for matrix in blocks]
        )
    return BlockMatrix(blocks[0].bits, codes, scales, offset)
