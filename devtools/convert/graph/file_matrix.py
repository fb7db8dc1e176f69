"""A quantised matrix in the bytes of its GGUF, which are mapped and decoded only where they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from devtools.convert.graph.block_matrix import BlockMatrix, Bytes, Floats, in_pieces
from devtools.convert.graph.block_types import FORMS, decode
from operators.layout import FILE_TYPES, GROUP, FileType, interleave


@dataclass(frozen=True, slots=True)
class FileMatrix:
    """N rows of K weights in blocks of `kind`.

    kind: One of `QUANTISED`
    parts: uint8 [rows, bytes of a row] each; their rows are the matrix's, one part after the other
    """

    kind: GGMLQuantizationType
    parts: tuple[Bytes, ...]

    @property
    def rows(self) -> int:
        """N, the output features."""
        return sum(len(part) for part in self.parts)

    @property
    def columns(self) -> int:
        """K, the input features."""
        size, size_bytes = GGML_QUANT_SIZES[self.kind]
        return int(self.parts[0].shape[1]) // size_bytes * size

    @property
    def attributes(self) -> dict[str, int]:
        """Of the nodes that read it: N, K and its form."""
        form = {"ggml_type": int(self.kind)} if self._file_type else FORMS[self.kind].attributes
        return {"N": self.rows, "K": self.columns, **form}

    @property
    def packed_bytes(self) -> int:
        """Bytes of all that `packed` gives."""
        if self._file_type is None:
            return FORMS[self.kind].packed_bytes(self.rows, self.columns)
        return -(-self.rows // GROUP) * GROUP * int(self.parts[0].shape[1])

    def packed(self) -> Iterator[Bytes]:
        """The matrix as the operators read it, in pieces."""
        for piece in self.pieces():
            if self._file_type is None:
                yield from decode(self.kind, piece).packed()
            else:
                yield interleave(piece, self._file_type)

    def decoded(self) -> BlockMatrix:
        """All codes, scales and offsets."""
        return decode(self.kind, np.concatenate(self.parts))

    def pieces(self) -> Iterator[Bytes]:
        """Rows in whole groups (the last piece may end within one), as many at once as are quickly computed with."""
        for rows in in_pieces(self.rows, self.columns):
            yield self._raw(rows)

    def rows_of(self, rows: slice) -> "FileMatrix":
        """Some of its rows."""
        return FileMatrix(self.kind, (self._raw(rows),))

    def dequantise(self, rows: slice | np.ndarray[Any, Any] = slice(None)) -> Floats:
        """The weights of `rows` as float32 [rows, K]."""
        raw = self._raw(slice(0, self.rows)) if len(self.parts) > 1 else self.parts[0]
        return decode(self.kind, np.ascontiguousarray(raw[rows])).dequantise()

    @property
    def _file_type(self) -> FileType | None:
        """None: the operators read the type in LLMOS's own form."""
        return FILE_TYPES.get(self.kind.name)

    def _raw(self, rows: slice) -> Bytes:
        found, start = [], 0
        for part in self.parts:
            here = part[max(rows.start - start, 0) : max(rows.stop - start, 0)]
            found += [here] if len(here) else []
            start += len(part)
        return found[0] if len(found) == 1 else np.concatenate(found)
