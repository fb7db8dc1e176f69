"""Rows between two stages of preparation: lines in one file, and where each split begins."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from devtools.data.rows import Row, parse_row

BLOCK_BYTES = 4 << 20
"""What one process works on at a time."""


class RowFile:
    """Lines are appended; then they are read block by block, or a row by its number.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._lengths: list[NDArray[np.uint32]] = []
        self._starts: NDArray[np.int64] | None = None
        self.runs: list[tuple[str, int]] = []
        """(split, bytes) in their order."""
        self.rows = 0
        self.size = 0

    def append(self, lines: bytes, split: str) -> None:
        """Add rows, each with its end of line."""
        if not lines:
            return
        self._file.write(lines)
        ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))
        self._lengths.append(np.diff(ends, prepend=-1).astype(np.uint32))
        self.rows += len(ends)
        self.size += len(lines)
        if self.runs and self.runs[-1][0] == split:
            self.runs[-1] = (split, self.runs[-1][1] + len(lines))
        else:
            self.runs.append((split, len(lines)))

    def blocks(self) -> Iterator[tuple[str, bytes]]:
        """(split, lines) of about `BLOCK_BYTES`; a block ends with a line and has one split."""
        self._file.flush()
        with self._path.open("rb") as file:
            for split, size in self.runs:
                yield from ((split, block) for block in cut(file, size))

    def row(self, index: int) -> Row:
        """The row with this number, from 0."""
        if self._starts is None:
            self._file.flush()
            lengths = np.concatenate(self._lengths)
            self._starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        return parse_row(os.pread(self._file.fileno(), end - start, start), f"row {index}")

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def cut(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The next `size` bytes of an open file in blocks of whole lines."""
    while size > 0:
        block = file.read(min(BLOCK_BYTES, size))
        if not block:
            return
        if len(block) < size and not block.endswith(b"\n"):
            block += file.readline()
        size -= len(block)
        yield block
