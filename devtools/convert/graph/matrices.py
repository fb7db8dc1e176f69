"""The forms in which graphs multiply by a matrix, how several become one, and how one is read back from a graph."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from gguf import GGMLQuantizationType

from devtools.convert.graph.block_matrix import BlockForm, BlockMatrix, Bytes, Floats
from devtools.convert.graph.block_types import FORMS
from devtools.convert.graph.file_matrix import FileMatrix
from operators.layout import FILE_TYPES, file_rows, unpack

Quantised = BlockMatrix | FileMatrix
Matrix = Quantised | Floats
"""Floats: float32 [N, K]."""


def join(matrices: Sequence[Matrix]) -> list[tuple[int, Matrix]]:
    """Neighbours whose forms allow it become one matrix, with the rows (output features) of all.

    Returns:
        In order, how many matrices became one, and that one.
    """
    runs = [list(run) for _, run in groupby(matrices, key=_form)]
    return [(len(run), run[0] if len(run) == 1 else _joined(run)) for run in runs]


def stored_form(attributes: Mapping[str, int]) -> BlockForm:
    """How the codes of a graph's matrix make weights, once it is decoded; `attributes` are its node's."""
    if "ggml_type" in attributes:
        return FORMS[GGMLQuantizationType(attributes["ggml_type"])]
    return BlockForm(attributes["bits"], attributes["block"], bool(attributes["offsets"]))


def stored_matrix(packed: Bytes, attributes: Mapping[str, int]) -> Quantised:
    """The matrix of a graph whose bytes are `packed`, as the node's attributes say that it is read."""
    if "ggml_type" in attributes:
        kind = GGMLQuantizationType(attributes["ggml_type"])
        return FileMatrix(kind, (file_rows(packed, attributes["N"], FILE_TYPES[kind.name]),))
    form = stored_form(attributes)
    return BlockMatrix(
        form.bits, *unpack(packed, attributes["N"], bits=form.bits, block=form.block, offsets=form.offsets)
    )


def _form(matrix: Matrix) -> object:
    """Equal for matrices that can be one."""
    if isinstance(matrix, FileMatrix):
        return matrix.kind
    return (matrix.bits, matrix.block) if isinstance(matrix, BlockMatrix) else np.float32


def _joined(run: Sequence[Matrix]) -> Matrix:
    if isinstance(run[0], FileMatrix):
        files = [matrix for matrix in run if isinstance(matrix, FileMatrix)]
        return FileMatrix(files[0].kind, tuple(part for matrix in files for part in matrix.parts))
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
